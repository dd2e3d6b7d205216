// pypoold from Node 18 or newer, without packages: node node.mjs "to be or not to be"
import net from "node:net";

// MessagePack, as much of it as is needed here. Integers up to 2^32, text, lists, objects; reads floats and bytes too.
function pack(v) {
  if (v === null) return Buffer.from([0xc0]);
  if (typeof v === "boolean") return Buffer.from([v ? 0xc3 : 0xc2]);
  if (typeof v === "number") {
    const b = Buffer.alloc(Number.isInteger(v) && v >= 0 && v < 2 ** 32 ? 5 : 9);
    if (b.length === 5) { b[0] = 0xce; b.writeUInt32BE(v, 1); } else { b[0] = 0xcb; b.writeDoubleBE(v, 1); }
    return b;
  }
  const head = (type, n) => { const b = Buffer.alloc(5); b[0] = type; b.writeUInt32BE(n, 1); return b; };
  if (typeof v === "string") { const b = Buffer.from(v); return Buffer.concat([head(0xdb, b.length), b]); }
  if (Array.isArray(v)) return Buffer.concat([v.length < 16 ? Buffer.from([0x90 | v.length]) : head(0xdd, v.length), ...v.map(pack)]);
  const entries = Object.entries(v);
  return Buffer.concat([head(0xdf, entries.length), ...entries.flat().map(pack)]);
}

function unpack(b) {
  let at = 0;
  const take = (n) => b.subarray(at, (at += n));
  const uint = (n) => (n === 8 ? Number(take(8).readBigUInt64BE()) : take(n).readUIntBE(0, n));
  const int = (n) => (n === 8 ? Number(take(8).readBigInt64BE()) : take(n).readIntBE(0, n));
  const list = (n) => Array.from({ length: n }, value);
  const map = (n) => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]));
  function value() {
    const t = uint(1);
    if (t < 0x80) return t;
    if (t < 0x90) return map(t & 15);
    if (t < 0xa0) return list(t & 15);
    if (t < 0xc0) return take(t & 31).toString();
    if (t >= 0xe0) return t - 256;
    if (t === 0xc0) return null;
    if (t === 0xc2 || t === 0xc3) return t === 0xc3;
    if (t <= 0xc6 && t >= 0xc4) return take(uint(1 << (t - 0xc4)));
    if (t === 0xca) return take(4).readFloatBE();
    if (t === 0xcb) return take(8).readDoubleBE();
    if (t >= 0xcc && t <= 0xcf) return uint(1 << (t - 0xcc));
    if (t >= 0xd0 && t <= 0xd3) return int(1 << (t - 0xd0));
    if (t >= 0xd9 && t <= 0xdb) return take(uint(1 << (t - 0xd9))).toString();
    if (t === 0xdc || t === 0xdd) return list(uint(t === 0xdc ? 2 : 4));
    if (t === 0xde || t === 0xdf) return map(uint(t === 0xde ? 2 : 4));
    throw new Error(`type 0x${t.toString(16)} is not read here`);
  }
  return value();
}

// Each message behind its length, 4 bytes, big-endian. Answers come in any order: the id finds the call.
class Pypool {
  constructor(path) {
    this.calls = new Map();
    this.id = 0;
    this.input = Buffer.alloc(0);
    this.socket = net.connect(path);
    this.socket.on("data", (data) => this.receive(data));
    this.socket.on("error", (error) => this.lose(error));
    this.socket.on("close", () => this.lose(new Error("the daemon closed the connection")));
    this.call("hello", { protocol: 1, client: "node.mjs" }).catch((error) => this.lose(error));
  }
  call(method, params = {}) {
    const body = pack([0, ++this.id, method, [params]]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    this.socket.write(Buffer.concat([length, body]));
    return new Promise((resolve, reject) => this.calls.set(this.id, { resolve, reject }));
  }
  receive(data) {
    this.input = Buffer.concat([this.input, data]);
    while (this.input.length >= 4 && this.input.length >= 4 + this.input.readUInt32BE()) {
      const end = 4 + this.input.readUInt32BE();
      const [type, id, error, result] = unpack(this.input.subarray(4, end));
      this.input = this.input.subarray(end);
      const call = type === 1 ? this.calls.get(id) : undefined;
      this.calls.delete(id);
      if (error !== null && call) call.reject(new Error(`${error.code}: ${error.message} (executed: ${error.executed})`));
      else if (call) call.resolve(result);
    }
  }
  lose(error) {
    for (const call of this.calls.values()) call.reject(error);
    this.calls.clear();
    this.socket.destroy();
  }
}

const pool = new Pypool(process.env.PYPOOL_SOCKET ?? "/run/pypoold/pypoold.sock");
try {
  const text = process.argv[2] ?? "the quick brown fox jumps over the lazy dog";
  const result = await pool.call("execute", { target: "word_count", args: [text], timeout_ms: 10000 });
  console.log(`${result.words} words`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
pool.socket.end();
