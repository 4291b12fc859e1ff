// A gRPC-Web client by Google's grpc-web, in both formats. Argument: the gateway's URL.
global.XMLHttpRequest = require("xhr2");
const { GrpcWebClientBase, MethodDescriptor, MethodType } = require("grpc-web");

// `Text { string text = 1 }` by hand: short texts only.
class Text {
  constructor(text) { this.text = text; }
  serializeBinary() { return Uint8Array.from([10, this.text.length, ...Buffer.from(this.text)]); }
  static deserializeBinary(bytes) { return new Text(Buffer.from(bytes.slice(2)).toString()); }
}
const method = (name, type) => new MethodDescriptor(
  `/demo.Greeter/${name}`, type, Text, Text, (text) => text.serializeBinary(), Text.deserializeBinary);
const one = method("One", MethodType.UNARY), down = method("Down", MethodType.SERVER_STREAMING);
const url = process.argv[2];
let checks = 0;
const same = (what, got, expected) => {
  checks += 1;
  if (JSON.stringify(got) !== JSON.stringify(expected)) { console.error(what, got, expected); process.exit(1); }
};
const unary = (client, text) => new Promise((resolve) => client.rpcCall(
  `${url}/demo.Greeter/One`, new Text(text), {}, one,
  (error, reply) => resolve(error ? [error.code, error.message] : reply.text)));
const stream = (client, count) => new Promise((resolve) => {
  const heard = [];
  const call = client.serverStreaming(`${url}/demo.Greeter/Down`, new Text(count), {}, down);
  call.on("data", (reply) => heard.push(reply.text));
  call.on("error", (error) => resolve([error.code, error.message]));
  call.on("status", (status) => { if (status.code !== 0) resolve(status); });
  call.on("end", () => resolve(heard));
});
(async () => {
  for (const format of ["text", "binary"]) {
    const client = new GrpcWebClientBase({ format });
    same(`${format} unary`, await unary(client, "you"), "hello you");
    same(`${format} error`, await unary(client, "fail"), [9, "as you asked"]);
  }
  const client = new GrpcWebClientBase({ format: "text" });
  same("text stream", await stream(client, "5"), ["0", "1", "2", "3", "4"]);
  console.log(`grpc-web: ${checks} checks passed`);
})();
