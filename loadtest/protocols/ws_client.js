// A WebSocket client by ws. Arguments: the URL.
const WebSocket = require("ws");
const socket = new WebSocket(process.argv[2], { perMessageDeflate: true, maxPayload: 64 << 20 });
const sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20];
let at = 0;
const fail = (what) => { console.error(what); process.exit(1); };
const say = () => socket.send(Buffer.alloc(sizes[at], at + 1));
socket.on("open", () => { socket.ping("there?"); say(); });
socket.on("pong", (data) => { if (data.toString() !== "there?") fail("another pong"); });
socket.on("message", (data, isBinary) => {
  if (!isBinary || data.length !== sizes[at] || (data.length && data[0] !== at + 1)) fail(`echo of ${sizes[at]}`);
  at += 1;
  if (at < sizes.length) say(); else socket.close(4321, "enough");
});
socket.on("error", (error) => fail(error.message));
socket.on("close", (code) => {
  if (at !== sizes.length || code !== 4321) fail(`closed with ${code} after ${at}`);
  console.log(`ws: ${sizes.length} sizes, ping and close passed`);
});
