// A WebSocket server by ws that echoes, with compression. Argument: its port.
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({
  port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: true, maxPayload: 64 << 20,
});
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {});
});
