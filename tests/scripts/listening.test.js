// What the page asks while one stream ends and the next is not opened yet.

import assert from "node:assert/strict";
import { test } from "node:test";

const asked = [];
globalThis.window = {
  fetch: (request) => new Promise((answer) => asked.push({ request, answer: (headers = {}, status = 200) => answer(new Response("", { status, headers })) })),
};
globalThis.document = { baseURI: "http://lab/" };
await import("../../assets/scripts/listening.js");

const turns = async () => { for (let i = 0; i < 20; i++) await Promise.resolve(); };
const last = () => asked[asked.length - 1];
const join = () => window.fetch("http://lab/gradio_api/queue/join", { method: "POST", body: "{}" });

function listen() {
  const leaving = new AbortController();
  window.fetch(new Request("http://lab/gradio_api/queue/data?session_hash=a", { signal: leaving.signal })).catch(() => {});
  return { leaving, name: last().request.headers.get("x-stream"), arrives: last().answer };
}

// Whether what was begun is told to the page by now.
async function told(promise) {
  let done = false;
  promise.then(() => { done = true; });
  await turns();
  return done;
}

test("without a stream an event is told at once, and names none", async () => {
  const event = join();
  assert.equal(last().request.headers.get("x-stream"), null);
  last().answer({ "x-stream": "closed" });
  assert.equal(await told(event), true);
});

test("an event names the stream that the page listens to, once it has arrived", async () => {
  const stream = listen(), count = asked.length, event = join();
  await turns();
  assert.equal(asked.length, count, "it waits for the stream");
  stream.arrives();
  await turns();
  assert.equal(last().request.headers.get("x-stream"), stream.name);
  assert.ok(stream.name);
  last().answer({ "x-stream": "open" });
  assert.equal(await told(event), true);
  stream.leaving.abort();
  await turns();
});

test("where the server has closed it, the page first leaves it, and hears of the event then", async () => {
  const stream = listen();
  stream.arrives();
  const event = join();
  await turns();
  last().answer({ "x-stream": "closed" });
  assert.equal(await told(event), false);
  stream.leaving.abort();
  assert.equal(await told(event), true);
  const next = join();
  await turns();
  assert.equal(last().request.headers.get("x-stream"), null, "it listens to none");
  last().answer();
  assert.equal(await told(next), true);
});

test("a stream that is refused holds nothing up", async () => {
  const stream = listen(), event = join();
  stream.arrives({}, 404);
  await turns();
  last().answer({ "x-stream": "closed" });
  assert.equal(await told(event), true);
});

test("what is asked elsewhere is passed on as it is", async () => {
  const init = { method: "POST" }, answer = window.fetch("http://lab/gradio_api/upload", init);
  assert.equal(last().request, "http://lab/gradio_api/upload");
  last().answer();
  assert.equal(await told(answer), true);
});
