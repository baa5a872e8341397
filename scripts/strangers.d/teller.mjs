// What the holders written in JavaScript share: what they are told, the time, and how a history is written.

const { NODES, PROCESS, LOCK, TTL_MS, BOOT_AHEAD, SECONDS } = process.env;

export const nodes = NODES.split(',');
export const lock = LOCK;
export const ttl = Number(TTL_MS);

/** Nanoseconds on the boot clock. */
export const now = () => process.hrtime.bigint() + BigInt(BOOT_AHEAD);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Whose this value on a node is: no event, and kept out of the history. */
export const mine = (value) => {
  console.log(JSON.stringify({ value }));
  return value;
};

/**
 * Takes and frees the lock again and again, and tells each step as a line of history. `take` gives null if others have
 * it, else a deadline and how to free it, which tells whether that was confirmed.
 */
export async function work(take) {
  let turn = 0;
  const tell = (what, at = now()) => {
    const who = { client: { process: Number(PROCESS), task: 0, attempt: turn } };
    // JSON has no big integers: the time goes in by hand.
    console.log(`{"at":${at},"actor":${JSON.stringify(who)},"kind":${what}}`);
  };
  const until = now() + BigInt(Math.round(Number(SECONDS) * 1e9));
  while (now() < until) {
    turn += 1;
    tell(JSON.stringify({ waiting: { keys: [lock], kind: 'mutex', ttl_ms: ttl, wait_ms: 1000 } }));
    try {
      const held = await take();
      if (held) {
        tell(`{"granted":{"deadline":${held.deadline},"number":null,"nonce":null,"margin":0}}`);
        await sleep(Math.random() * 30);
        tell('"releasing"');
        tell(JSON.stringify({ released: { confirmed: await held.free() } }));
      } else {
        tell('{"refused":{"why":"contended"}}');
      }
    } catch (error) {
      tell(JSON.stringify({ errored: { words: String(error) } }));
    }
    await sleep(Math.random() * 40);
  }
  tell('"finished"');
}
