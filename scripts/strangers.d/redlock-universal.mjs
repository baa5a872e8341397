// redlock-universal as a holder.

import Redis from 'ioredis';
import { IoredisAdapter, LockAcquisitionError, createRedlock } from 'redlock-universal';

import { lock, mine, nodes, now, ttl, work } from './teller.mjs';

const values = new Set();

class Told extends IoredisAdapter {
  setNX(key, value, ms) {
    if (!values.has(value)) values.add(mine(value));
    return super.setNX(key, value, ms);
  }
}

// It dials again by itself.
const clients = nodes.map((url) => new Redis(url).on('error', () => {}));
const adapters = clients.map((client) => new Told(client));
const redlock = createRedlock({ adapters, key: lock, ttl, retryAttempts: 0 });

await work(async () => {
  // Its own `acquiredAt` is of when the last answer came, by which a ttl counted from there is too long.
  const deadline = now() + BigInt(Math.floor(ttl * 0.99) - 2) * 1_000_000n;
  const held = await redlock.acquire().catch((error) => {
    if (!(error instanceof LockAcquisitionError)) throw error;
    return null;
  });
  return held && { deadline, free: () => redlock.release(held) };
});
clients.forEach((client) => client.disconnect());
