// An issuer on loopback, with npm's oidc-provider: its own login and consent forms, rotating refresh
// tokens, access tokens that live as long as a test says.

import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

/** Starts one for the client `gateway`; `life.access` is the life of access tokens in seconds. */
export async function startIssuer({ port, secret, redirectUris, afterLogout, life }) {
  const issuer = `http://127.0.0.1:${port}`;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'one' };
  const asked = [];
  const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: ['only for tests'] },
    clients: [{
      client_id: 'gateway',
      client_secret: secret,
      redirect_uris: redirectUris,
      post_logout_redirect_uris: [afterLogout],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      id_token_signed_response_alg: 'ES256',
    }],
    claims: { openid: ['sub'], email: ['email'] },
    conformIdTokenClaims: false,
    findAccount: async (_, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, email: `${id}@example.com` }),
    }),
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    ttl: {
      AccessToken: () => life.access,
      IdToken: 3600, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600, AuthorizationCode: 60,
    },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  });
  provider.use(async (context, next) => {
    await next();
    if (context.path === '/token') {
      asked.push({ grant: context.oidc?.params?.grant_type, status: context.status });
    }
  });
  const server = await new Promise((resolve, reject) => {
    const listening = provider.listen(port, '127.0.0.1', () => resolve(listening));
    listening.on('error', reject);
  });
  return { issuer, asked, stop: () => server.closeAllConnections() ?? server.close() };
}
