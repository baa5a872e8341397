// node-redlock 5: takes and frees one lock again and again, and tells each step as a line of history.
import Redis from 'ioredis';
import Redlock, { ExecutionError } from 'redlock';

const { NODES, PROCESS, LOCK, TTL_MS, BOOT_AHEAD, SECONDS } = process.env;
const ttl = Number(TTL_MS);
const now = () => process.hrtime.bigint() + BigInt(BOOT_AHEAD);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let turn = 0;
const tell = (what, at = now()) => {
  const who = { client: { process: Number(PROCESS), task: 0, turn } };
  // JSON has no big integers: the time goes in by hand.
  console.log(`{"at":${at},"who":${JSON.stringify(who)},"what":${what}}`);
};

const nodes = NODES.split(',').map((url) => new Redis(url));
const redlock = new Redlock(nodes, { retryCount: 0 });
const until = now() + BigInt(Math.round(Number(SECONDS) * 1e9));
while (now() < until) {
  turn += 1;
  tell(JSON.stringify({ waiting: { keys: [LOCK], kind: 'mutex', ttl_ms: ttl, wait_ms: 1000 } }));
  try {
    const lock = await redlock.acquire([LOCK], ttl);
    // A millisecond less: `expiration` is rounded to one.
    const left = BigInt(lock.expiration - Date.now() - 1) * 1_000_000n;
    const at = now();
    tell(`{"granted":{"deadline":${at + left},"number":null,"nonce":null,"margin":0}}`, at);
    await sleep(Math.random() * 30);
    tell('"releasing"');
    await lock.release();
    tell('{"released":{"confirmed":true}}');
  } catch (error) {
    if (error instanceof ExecutionError) tell('{"refused":{"why":"held"}}');
    else tell(JSON.stringify({ errored: { words: String(error) } }));
  }
  await sleep(Math.random() * 40);
}
tell('"finished"');
nodes.forEach((node) => node.disconnect());
