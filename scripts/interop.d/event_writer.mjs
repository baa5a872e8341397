// Settings, clock and event writer of the clients written in JavaScript.

const { NODES, PROCESS, LOCK, TTL_MS, BOOT_AHEAD, SECONDS } = process.env;

export const nodes = NODES.split(',');
export const lock = LOCK;
export const ttl = Number(TTL_MS);

/** Nanoseconds on the boot clock. */
export const now = () => process.hrtime.bigint() + BigInt(BOOT_AHEAD);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Records which client writes this value on the nodes: not an event, and not in the history. */
export const recordValue = (value) => {
  console.log(JSON.stringify({ value }));
  return value;
};

/**
 * Acquires and releases the lock in a loop, and writes each step as an event of the history. `acquire` returns null if
 * the lock is contended, else a deadline and `release`, which returns whether the release was confirmed.
 */
export async function work(acquire) {
  let attempt = 0;
  const write = (kind, at = now()) => {
    const actor = { client: { process: Number(PROCESS), task: 0, attempt } };
    // JSON.stringify cannot write a BigInt, so the time is inserted as text.
    console.log(`{"at":${at},"actor":${JSON.stringify(actor)},"kind":${kind}}`);
  };
  const until = now() + BigInt(Math.round(Number(SECONDS) * 1e9));
  while (now() < until) {
    attempt += 1;
    write(JSON.stringify({ waiting: { keys: [lock], kind: 'mutex', ttl_ms: ttl, wait_ms: 1000 } }));
    try {
      const held = await acquire();
      if (held) {
        write(`{"granted":{"deadline":${held.deadline},"fencing_number":null,"nonce":null,"spare_nodes":0}}`);
        await sleep(Math.random() * 30);
        write('"releasing"');
        write(JSON.stringify({ released: { confirmed: await held.release() } }));
      } else {
        write('{"failed":{"reason":"contended"}}');
      }
    } catch (error) {
      write(JSON.stringify({ unexpected_error: { message: String(error) } }));
    }
    await sleep(Math.random() * 40);
  }
  write('"finished"');
}
