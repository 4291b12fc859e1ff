// What a test needs around it: ports, an origin, a gateway, a browser.

import { spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const { TOLLGATE, CHROMIUM, FOLDER } = process.env;

export async function freePort() {
  const server = createSocket();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function until(what, condition) {
  const end = Date.now() + 30_000;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** An application that shows what it got; `/page` has a script for what a page may do. */
export async function startOrigin() {
  const got = [];
  const server = createServer((request, response) => {
    got.push({ method: request.method, url: request.url, headers: request.headers });
    response.setHeader('content-type', 'text/html');
    response.end(`<h1>application</h1><pre id="got">${JSON.stringify({
      url: request.url, headers: request.headers,
    }).replace(/</g, '&lt;')}</pre>`);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: server.address().port, got, stop: () => server.closeAllConnections() ?? server.close() };
}

/** The gateway, as a process of its own, once it is ready. */
export async function startGateway(yaml, admin) {
  const folder = mkdtempSync(join(FOLDER, 'gateway-'));
  const path = join(folder, 'gateway.yaml');
  writeFileSync(path, yaml);
  const child = spawn(TOLLGATE, ['run', '-c', path], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  const keep = (chunk) => { log += chunk; };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const stop = () => new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.on('exit', resolve);
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 5000).unref();
  });
  try {
    await until('the gateway is ready', async () => {
      if (child.exitCode !== null) throw new Error(`the gateway ended:\n${log}`);
      return fetch(`http://127.0.0.1:${admin}/readyz`).then((answer) => answer.ok, () => false);
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { log: () => log, stop };
}

export function startBrowser() {
  return puppeteer.launch({
    executablePath: CHROMIUM,
    headless: true,
    acceptInsecureCerts: true,
    userDataDir: mkdtempSync(join(FOLDER, 'browser-')),
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    ],
  });
}
