// node-redlock 5 as a client.

import Redis from 'ioredis';
import Redlock, { ExecutionError } from 'redlock';

import { lock, recordValue, nodes, now, ttl, work } from './event_writer.mjs';

class RecordingRedlock extends Redlock {
  _random() {
    return recordValue(super._random());
  }
}

// ioredis reconnects by itself.
const clients = nodes.map((url) => new Redis(url).on('error', () => {}));
const redlock = new RecordingRedlock(clients, { retryCount: 0 });

/** Null if too few nodes agreed: its error for a contended lock, and for an expired one. */
const nullIfTooFew = (error) => {
  if (!(error instanceof ExecutionError)) throw error;
  return null;
};

await work(async () => {
  const held = await redlock.acquire([lock], ttl).catch(nullIfTooFew);
  if (!held) return null;
  // One millisecond less, because `expiration` is rounded to milliseconds.
  const deadline = now() + BigInt(held.expiration - Date.now() - 1) * 1_000_000n;
  return { deadline, release: async () => (await held.release().catch(nullIfTooFew)) !== null };
});
clients.forEach((client) => client.disconnect());
