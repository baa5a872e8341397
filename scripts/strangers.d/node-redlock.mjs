// node-redlock 5 as a holder.

import Redis from 'ioredis';
import Redlock, { ExecutionError } from 'redlock';

import { lock, mine, nodes, now, ttl, work } from './teller.mjs';

class Told extends Redlock {
  _random() {
    return mine(super._random());
  }
}

// It dials again by itself.
const clients = nodes.map((url) => new Redis(url).on('error', () => {}));
const redlock = new Told(clients, { retryCount: 0 });

/** Null if too few nodes did it: that is how it says that others have the lock, and also that it is over. */
const unless = (error) => {
  if (!(error instanceof ExecutionError)) throw error;
  return null;
};

await work(async () => {
  const held = await redlock.acquire([lock], ttl).catch(unless);
  if (!held) return null;
  // A millisecond less: `expiration` is rounded to one.
  const deadline = now() + BigInt(held.expiration - Date.now() - 1) * 1_000_000n;
  return { deadline, free: async () => (await held.release().catch(unless)) !== null };
});
clients.forEach((client) => client.disconnect());
