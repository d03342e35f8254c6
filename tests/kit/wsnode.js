// The WebSocket client of npm's "ws", driven by kit/wsnode.py: a line of JSON in for each call, and
// a line of JSON out for its answer, in whatever order they come.
"use strict";

const { readFileSync } = require("fs");
const readline = require("readline");
const WebSocket = require("ws");

// Many sockets at once, all of the same process: that is what Node is for.
const talkers = new Map();

class Talker {
  constructor(socket) {
    this.socket = socket;
    this.arrived = [];
    this.waiting = [];
    socket.on("message", (data, binary) =>
      this.arrive(binary ? { binary: data.toString("base64") } : { text: data.toString() }));
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => {
        const end = { closed: code, reason: reason.toString() };
        this.arrive(end);
        resolve(end);
      });
    });
  }

  arrive(what) {
    const waiter = this.waiting.shift();
    if (waiter) waiter(what);
    else this.arrived.push(what);
  }

  next() {
    if (this.arrived.length) return this.arrived.shift();
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

function open({ id, url, subprotocols, deflate, authority }) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, subprotocols, {
      perMessageDeflate: deflate,
      ca: authority ? readFileSync(authority) : undefined,
    });
    const talker = new Talker(socket);
    socket.on("error", reject);
    socket.on("open", () => {
      talkers.set(id, talker);
      resolve({ subprotocol: socket.protocol || null, extensions: socket.extensions });
    });
    socket.on("unexpected-response", (request, response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () => resolve({
        refused: response.statusCode,
        headers: response.headers,
        body: Buffer.concat(pieces).toString("base64"),
      }));
    });
  });
}

function sent(talker, data, options) {
  return new Promise((resolve, reject) => {
    talker.socket.send(data, options, (error) => (error ? reject(error) : resolve({})));
  });
}

const calls = {
  open,
  send: ({ id, text, binary }) =>
    sent(talkers.get(id), binary === undefined ? text : Buffer.from(binary, "base64"), {}),
  fragments: async ({ id, parts }) => {
    for (const [number, part] of parts.entries()) {
      await sent(talkers.get(id), part, { fin: number === parts.length - 1 });
    }
    return {};
  },
  recv: ({ id }) => talkers.get(id).next(),
  ping: ({ id, binary }) => new Promise((resolve) => {
    const { socket } = talkers.get(id);
    socket.once("pong", (data) => resolve({ binary: data.toString("base64") }));
    socket.ping(Buffer.from(binary, "base64"));
  }),
  close: ({ id, code, reason }) => {
    const talker = talkers.get(id);
    talker.socket.close(code, reason);
    return talker.closed;
  },
  drop: ({ id }) => {
    talkers.get(id).socket.terminate();
    talkers.delete(id);
    return {};
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const call = JSON.parse(line);
  let answer;
  try {
    answer = await calls[call.call](call);
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify({ number: call.number, ...answer }) + "\n");
});
