// redlock-universal as a client.

import Redis from 'ioredis';
import { IoredisAdapter, LockAcquisitionError, createRedlock } from 'redlock-universal';

import { lock, recordValue, nodes, now, ttl, work } from './event_writer.mjs';

const values = new Set();

class RecordingAdapter extends IoredisAdapter {
  setNX(key, value, ms) {
    if (!values.has(value)) values.add(recordValue(value));
    return super.setNX(key, value, ms);
  }
}

// ioredis reconnects by itself.
const clients = nodes.map((url) => new Redis(url).on('error', () => {}));
const adapters = clients.map((client) => new RecordingAdapter(client));
const redlock = createRedlock({ adapters, key: lock, ttl, retryAttempts: 0 });

await work(async () => {
  // Its own `acquiredAt` is the time of the last reply, so a ttl counted from there is too long.
  const deadline = now() + BigInt(Math.floor(ttl * 0.99) - 2) * 1_000_000n;
  const held = await redlock.acquire().catch((error) => {
    if (!(error instanceof LockAcquisitionError)) throw error;
    return null;
  });
  return held && { deadline, release: () => redlock.release(held) };
});
clients.forEach((client) => client.disconnect());
