// Drives a gateway with tokens of oidc-provider. Called by run.sh.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { Provider } from 'oidc-provider'

const [tollgate] = process.argv.slice(2)

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

const [issuerPort, webPort] = [await freePort(), await freePort()]
const issuer = `http://127.0.0.1:${issuerPort}`

function newKey(kid, alg) {
  const { privateKey } =
    alg === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }
}

// An issuer with these keys; it signs with the first one of the algorithm.
async function startIssuer(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'machine', client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [],
      response_types: [], token_endpoint_auth_method: 'client_secret_basic',
    }],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:api',
        getResourceServerInfo: (_, resource) => ({
          scope: 'read', audience: resource, accessTokenTTL: 600,
          accessTokenFormat: resource === 'urn:opaque' ? 'opaque' : 'jwt', jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  provider.on('server_error', (_, error) => console.error(error))
  const server = provider.listen(issuerPort, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function stop(server) {
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
}

async function newToken(resource = 'urn:api') {
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    // A connection of its own: the issuer comes and goes.
    headers: { authorization: `Basic ${btoa('machine:secret')}`, connection: 'close' },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'read', resource }),
  })
  const body = await answer.json()
  assert.equal(answer.status, 200, JSON.stringify(body))
  return body.access_token
}

async function ask(path, token) {
  const answer = await fetch(`http://127.0.0.1:${webPort}${path}`, { headers: { authorization: `Bearer ${token}` } })
  await answer.arrayBuffer()
  return answer.status
}

writeFileSync('gateway.yaml', `
version: 1
admin: off
telemetry: { access_log: off }
listeners: { web: { address: "127.0.0.1:${webPort}" } }
identity:
  providers:
    main:
      jwt: { issuer: "${issuer}", audiences: ["urn:api"], algorithms: [ES256], type: at+jwt, fetch: { wait: 20s } }
    asked:
      introspection: { url: "${issuer}/token/introspection", client_id: machine, client_secret: secret }
routes:
  jwt: { match: { path: /jwt }, policies: { authenticate: { any_of: [{ jwt: main }] } }, to: { echo: {} } }
  opaque: { match: { path: /opaque }, policies: { authenticate: { any_of: [{ introspection: asked }] } }, to: { echo: {} } }
`)

const [one, two, rsa] = [newKey('one', 'ES256'), newKey('two', 'ES256'), newKey('rsa', 'RS256')]
let server = await startIssuer([one, rsa])
const gateway = spawn(tollgate, ['run', '-c', 'gateway.yaml'], { stdio: ['ignore', 'inherit', 'inherit'] })
const ended = once(gateway, 'exit')
try {
  const old = await newToken()
  for (let tries = 0; ; tries++) {
    try { if (await ask('/jwt', old) === 200) break } catch (error) { if (tries > 300) throw error }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.equal(await ask('/jwt', `${old}x`), 401)
  assert.equal(await ask('/jwt', await newToken('urn:other')), 401, 'another audience')
  const opaque = await newToken('urn:opaque')
  assert.equal(await ask('/opaque', opaque), 200)
  assert.equal(await ask('/opaque', 'nobody-s'), 401)
  assert.equal(await ask('/jwt', opaque), 401)

  // Constant load with whatever tokens count at the time.
  const tokens = [old]
  let served = 0, going = true
  const refused = []
  const callers = Array.from({ length: 8 }, async () => {
    while (going) {
      const token = tokens[Math.floor(Math.random() * tokens.length)]
      const status = await ask('/jwt', token).catch((error) => `${error.cause ?? error}`)
      if (status === 200) served++
      else refused.push(status)
    }
  })
  const goesOn = async (requests) => {
    const enough = served + requests
    while (served < enough && refused.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await goesOn(200)
  await stop(server)                       // an outage
  await goesOn(200)
  server = await startIssuer([two, one, rsa])   // back with a new key, which signs at once
  tokens.push(await newToken())
  await goesOn(400)
  await stop(server)
  await goesOn(100)
  going = false
  await Promise.all(callers)
  assert.deepEqual(refused, [], 'no valid token is refused')
  console.log(`oidc-provider: ${served} requests served over an outage and a rotation, none refused`)
} finally {
  gateway.kill()
  await ended
  server.closeAllConnections()
  server.close()
}
