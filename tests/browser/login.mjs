// The login, as a person with a browser sees it. Each step says what it shows and fails loudly.

import assert from 'node:assert/strict';
import { startIssuer } from './issuer.mjs';
import { freePort, startBrowser, startGateway, startOrigin, until } from './world.mjs';

const secret = 'a secret of the client, long enough';
const cookieKey = 'a key for cookies that is at least 32 characters long';

async function world({ tls }) {
  const [web, admin, issuerPort] = [await freePort(), await freePort(), await freePort()];
  const base = `${tls ? 'https' : 'http'}://localhost:${web}`;
  const life = { access: 3600 };
  const origin = await startOrigin();
  const issuer = await startIssuer({
    port: issuerPort, secret, life,
    redirectUris: [`${base}/oauth2/callback`], afterLogout: `${base}/bye`,
  });
  const certificate = tls
    ? `, tls: { certificates: [{ certificate: ${process.env.FOLDER}/tls.crt, key: ${process.env.FOLDER}/tls.key }] }`
    : '';
  const gateway = await startGateway(`
version: 1
admin: { address: "127.0.0.1:${admin}" }
listeners: { web: { address: "127.0.0.1:${web}"${certificate} } }
upstreams: { app: { endpoints: ["127.0.0.1:${origin.port}"] } }
identity:
  providers:
    sso:
      oidc:
        issuer: "${issuer.issuer}"
        client_id: gateway
        client_secret: "${secret}"
        redirect_uri: "${base}/oauth2/callback"
        scopes: [openid, email]
        algorithms: [ES256]
        parameters: { prompt: consent }
        cookies: { keys: ["${cookieKey}"] }
        session: { refresh_before: 1s }
        logout: { path: /logout, return_to: "${base}/bye" }
routes:
  app:
    match: { path: "/*" }
    policies: { authenticate: { any_of: [{ oidc: sso }] } }
    to: app
  open:
    match: { path: /bye }
    to: app
`, admin);
  return { base, life, origin, issuer, gateway };
}

/** Fills in the issuer's forms: name and any password, then consent. */
async function logIn(page, name) {
  await page.waitForSelector('input[name=login]');
  await page.type('input[name=login]', name);
  await page.type('input[name=password]', 'any');
  await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
  await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
}

const shown = (page) => page.$eval('#got', (element) => JSON.parse(element.textContent));
const cookiesOf = async (page, base) =>
  (await page.cookies(base)).filter((cookie) => cookie.name.includes('tollgate-sso'));

const steps = {
  async 'a page behind the login leads to the issuer and back to that very page'({ base, page, prefix, tls }) {
    await page.goto(`${base}/reports/7?year=2026&q=a%20b`);
    assert.match(page.url(), /^http:\/\/127\.0\.0\.1:\d+\/interaction\//);
    const [attempt] = await cookiesOf(page, base);
    assert.match(attempt.name, new RegExp(`^${prefix}tollgate-sso\\.login\\.`));
    await logIn(page, 'ann');
    assert.equal(page.url(), `${base}/reports/7?year=2026&q=a%20b`, 'the deep link is kept');
    const got = await shown(page);
    assert.equal(got.url, '/reports/7?year=2026&q=a%20b');
    assert.equal(got.headers.cookie, undefined, 'the gateway keeps its cookies from the application');
    const cookies = await cookiesOf(page, base);
    assert.deepEqual(cookies.map(({ name }) => name).sort(), [`${prefix}tollgate-sso`, `${prefix}tollgate-sso.seen`]);
    for (const cookie of cookies) {
      assert.equal(cookie.httpOnly && cookie.sameSite === 'Lax' && cookie.path === '/', true, cookie.name);
      assert.equal(cookie.secure, tls, cookie.name);
      assert.ok(cookie.expires > 0, 'no cookie outlives its session');
    }
  },

  async 'the session holds for further pages and for scripts'({ base, page, issuer }) {
    const before = issuer.asked.length;
    await page.goto(`${base}/other`);
    assert.equal((await shown(page)).url, '/other');
    const status = await page.evaluate(() => fetch('/data').then((answer) => answer.status));
    assert.equal(status, 200);
    assert.equal(issuer.asked.length, before, 'nobody asked the issuer');
  },

  async 'no cookie of the gateway is within reach of a script'({ page }) {
    assert.equal(await page.evaluate(() => document.cookie), '');
  },

  async 'scripts without a session get 401 and no redirect'({ base, browser }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    await page.goto(`${base}/bye`);
    const answers = await page.evaluate(async () => {
      const get = await fetch('/data', { redirect: 'manual' });
      const post = await fetch('/data', { method: 'POST', redirect: 'manual' });
      return [get, post].map((answer) => [answer.type, answer.status, answer.headers.get('www-authenticate')]);
    });
    for (const [type, status, challenge] of answers) {
      assert.deepEqual([type, status], ['basic', 401]);
      assert.ok(challenge, 'a 401 says how to do better');
    }
    await context.close();
  },

  async 'several tabs may log in at once'({ base, browser }) {
    const context = await browser.createBrowserContext();
    const [one, two] = [await context.newPage(), await context.newPage()];
    await one.goto(`${base}/one`);
    await two.goto(`${base}/two`);
    await logIn(two, 'bob');
    assert.equal(two.url(), `${base}/two`);
    await one.bringToFront();
    await logIn(one, 'bob');
    assert.equal(one.url(), `${base}/one`);
    await context.close();
  },

  async 'a tampered cookie is no session, and a new login heals it'({ base, browser }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    await page.goto(`${base}/a`);
    await logIn(page, 'carl');
    const session = (await cookiesOf(page, base)).find(({ name }) => name.endsWith('tollgate-sso'));
    const at = session.value.length >> 1;
    const other = session.value[at] === 'A' ? 'B' : 'A';
    await page.setCookie({ ...session, value: session.value.slice(0, at) + other + session.value.slice(at + 1) });
    const status = await page.evaluate(() => fetch('/data').then((answer) => answer.status));
    assert.equal(status, 401);
    await page.goto(`${base}/b`);
    assert.match(page.url(), /\/interaction\//, 'the browser is sent to log in');
    await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
    assert.equal(page.url(), `${base}/b`);
    await context.close();
  },

  async 'a state that was answered is not answered again'({ base, browser, issuer }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    let callback;
    page.on('request', (request) => {
      if (request.url().startsWith(`${base}/oauth2/callback`)) callback = request.url();
    });
    await page.goto(`${base}/c`);
    const attempts = await cookiesOf(page, base);
    await logIn(page, 'dora');
    assert.equal(page.url(), `${base}/c`);
    const before = issuer.asked.length;
    // As the browser is: its attempt is over.
    let answer = await page.goto(callback);
    assert.equal(answer.status(), 400);
    assert.match(await page.content(), /Login did not work/);
    // With the cookie of the attempt back in place.
    await page.setCookie(...attempts);
    answer = await page.goto(callback);
    assert.equal(answer.status(), 400);
    assert.equal(issuer.asked.length, before, 'the code was not spent again');
    // In another browser, where it was never begun: nobody is logged in as somebody else.
    const victim = await browser.createBrowserContext();
    const other = await victim.newPage();
    answer = await other.goto(callback);
    assert.equal(answer.status(), 400);
    assert.deepEqual(await cookiesOf(other, base), []);
    await victim.close();
    await context.close();
  },

  async 'a login that is broken off ends with a page'({ base, browser }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    await page.goto(`${base}/d`);
    const [abort] = await page.$$('a[href$="/abort"]');
    const answers = [];
    page.on('response', (response) => answers.push([response.url(), response.status()]));
    await Promise.all([page.waitForNavigation(), abort.click()]);
    assert.match(await page.content(), /refused or broken off/);
    assert.equal(answers.find(([url]) => url.startsWith(`${base}/oauth2/callback`))[1], 403);
    const link = await page.$eval('a', (element) => element.getAttribute('href'));
    assert.equal(link, '/d', 'another attempt is one click away');
    await context.close();
  },

  async 'tokens are refreshed once for all requests that find them due'({ base, browser, issuer, life }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    life.access = 3;
    await page.goto(`${base}/e`);
    await logIn(page, 'emil');
    const [before] = (await cookiesOf(page, base)).filter(({ name }) => name.endsWith('tollgate-sso'));
    const refreshes = () => issuer.asked.filter(({ grant }) => grant === 'refresh_token');
    const asked = refreshes().length;
    await new Promise((resolve) => setTimeout(resolve, 3100));
    life.access = 3600;
    const statuses = await page.evaluate(() =>
      Promise.all(Array.from({ length: 8 }, (_, at) => fetch(`/data?${at}`).then((answer) => answer.status))));
    assert.deepEqual(statuses, Array(8).fill(200));
    assert.equal(refreshes().length, asked + 1, 'one refresh for eight requests');
    const [after] = (await cookiesOf(page, base)).filter(({ name }) => name.endsWith('tollgate-sso'));
    assert.notEqual(after.value, before.value);
    // Late, with the cookie from before: the token in it was spent, and is not spent again.
    await page.setCookie(before);
    assert.equal(await page.evaluate(() => fetch('/late').then((answer) => answer.status)), 200);
    assert.equal(refreshes().length, asked + 1);
    await page.goto(`${base}/f`);
    assert.equal((await shown(page)).url, '/f');
    assert.ok(refreshes().every(({ status }) => status === 200), 'no refresh token was spent twice');
    await context.close();
  },

  async 'another site cannot log anybody out'({ base, page, issuer }) {
    await page.goto(`${issuer.issuer}/.well-known/openid-configuration`);
    await Promise.all([
      page.waitForNavigation(),
      page.evaluate((to) => { window.location = to; }, `${base}/logout`),
    ]);
    assert.match(await page.content(), /Do you want to log out/);
    await page.goto(`${base}/still`);
    assert.equal((await shown(page)).url, '/still');
  },

  async 'logging out ends the session here and with the issuer'({ base, page }) {
    const old = await cookiesOf(page, base);
    await page.goto(`${base}/g`);
    await Promise.all([
      page.waitForNavigation(),
      page.evaluate(() => { window.location = '/logout'; }),
    ]);
    assert.match(page.url(), /\/session\/end\?/);
    assert.ok(new URL(page.url()).searchParams.get('id_token_hint'), 'the issuer is told which session');
    await Promise.all([page.waitForNavigation(), page.click('button[name=logout]')]);
    assert.equal(page.url().split('?')[0], `${base}/bye`);
    assert.deepEqual(await cookiesOf(page, base), []);
    await page.goto(`${base}/h`);
    assert.match(page.url(), /\/interaction\//);
    await page.waitForSelector('input[name=login]');
    // A copy of the cookies does not bring it back.
    await page.setCookie(...old);
    await page.goto(`${base}/i`);
    assert.match(page.url(), /\/interaction\//, 'a session that was ended stays ended');
  },
};

let failed = 0;
for (const tls of [true, false]) {
  const around = await world({ tls });
  const browser = await startBrowser();
  const page = await browser.newPage();
  try {
    for (const [name, step] of Object.entries(steps)) {
      try {
        await step({ ...around, browser, page, tls, prefix: tls ? '__Host-' : '' });
        console.log(`ok   ${tls ? 'https' : 'http '} ${name}`);
      } catch (error) {
        failed += 1;
        console.log(`FAIL ${tls ? 'https' : 'http '} ${name}\n${error.stack}\n${around.gateway.log().slice(-4000)}`);
      }
    }
  } finally {
    await browser.close();
    await around.gateway.stop();
    around.issuer.stop();
    around.origin.stop();
  }
}
await until('all is said', async () => true);
process.exit(failed === 0 ? 0 : 1);
