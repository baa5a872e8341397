// The workers for node-redlock and redlock-universal: each executes requests, one per line. The requests are listed in
// benches/runner/src/worker.rs.
import { createInterface } from 'node:readline';
import Redis from 'ioredis';

const [, name, , urls] = process.argv.slice(2);
const TTL = 10_000;
const prefix = `bench:${name.replaceAll(' ', '-')}:`;

const nodes = urls.split(',').map((url) => new Redis(url));
// Errors of a bad node are discarded here, because the failed requests report them.
nodes.forEach((node) => node.on('error', () => {}));

const clients = {
  'node-redlock': async () => {
    const { default: Redlock } = await import('redlock');
    const redlock = new Redlock(nodes, { retryCount: -1, retryDelay: 1, retryJitter: 1 });
    redlock.on('error', () => {});
    return {
      acquire: (key) => redlock.acquire([key], TTL),
      release: (lock) => lock.release(),
    };
  },
  'redlock-universal': async () => {
    const { createRedlock, IoredisAdapter } = await import('redlock-universal');
    const adapters = nodes.map((node) => new IoredisAdapter(node));
    const locks = new Map();
    const lockOf = (key) => {
      if (!locks.has(key)) {
        locks.set(key, createRedlock({ adapters, key, ttl: TTL, retryAttempts: 1000, retryDelay: 1 }));
      }
      return locks.get(key);
    };
    return {
      acquire: async (key) => ({ key, handle: await lockOf(key).acquire() }),
      release: ({ key, handle }) => lockOf(key).release(handle),
    };
  },
};

const micros = () => Number(process.hrtime.bigint()) / 1000;

async function sequence(client, ops) {
  const timings = [];
  for (let op = 0; op < ops; op += 1) {
    const begin = micros();
    const lock = await client.acquire(`${prefix}one`);
    const acquired = micros();
    await client.release(lock);
    timings.push(acquired - begin, micros() - acquired);
  }
  return timings;
}

async function throughput(client, tasks, millis) {
  const begin = micros();
  const cpu = process.cpuUsage();
  let done = 0;
  const task = async (_, number) => {
    while (micros() - begin < millis * 1000) {
      await client.release(await client.acquire(`${prefix}own:${number}`));
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: tasks }, task));
  const seconds = (micros() - begin) / 1e6;
  const { user, system } = process.cpuUsage(cpu);
  return [done, seconds, (user + system) / 1e6];
}

// One node may be bad, so it begins when a quorum is ready.
const ready = (node) => (node.status === 'ready' ? undefined : new Promise((done) => node.once('ready', done)));
let quorum = Math.floor(nodes.length / 2) + 1;
await new Promise((done) => {
  nodes.map(async (node) => {
    await ready(node);
    quorum -= 1;
    if (quorum === 0) setTimeout(done, 50);
  });
});
const client = await clients[name]();
console.log('ok');
for await (const line of createInterface({ input: process.stdin })) {
  const [request, ...numbers] = line.split(' ');
  try {
    const [first, second] = numbers.map(Number);
    let reply;
    if (request === 'untimed') reply = (await sequence(client, first)).slice(0, 0);
    else if (request === 'sequence') reply = await sequence(client, first);
    else if (request === 'throughput') reply = await throughput(client, first, second);
    else throw new Error(`unknown request ${line}`);
    console.log(['ok', ...reply].join(' '));
  } catch (error) {
    console.log(`error ${String(error).replaceAll('\n', ' ')}`);
  }
}
nodes.forEach((node) => node.disconnect());
process.exit(0);
