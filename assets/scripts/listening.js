// No answer is lost between two streams. Gradio's page hears of all its events through one stream, which the server
// closes once nothing is under way. An event that begins at that moment would wait for ever: the page learns that the
// event is queued before it learns that the stream is closed, and opens no other. So each stream has a name, the page
// says with every event to which one it listens, and where the server has closed that one (app/web/listening.py), the
// page first hears of the close.

const PATIENCE = 5000; // ms: a connection that broke never tells

const ask = window.fetch.bind(window);
let stream = null; // that is being opened, or open: { name, arrived, over }

const within = (...promises) => Promise.race([...promises, new Promise((done) => setTimeout(done, PATIENCE))]);

function open(request) {
  const name = `${performance.timeOrigin}-${Math.random()}`, opened = { name };
  request.headers.set("x-stream", name);
  const answer = ask(request), failed = answer.then((response) => !response.ok, () => true);
  opened.arrived = failed;
  opened.over = new Promise((done) => {
    request.signal.addEventListener("abort", done); // so the page leaves a stream, once it has noted that it is closed
    failed.then((so) => { if (so) done(); });
  }).then(() => { if (stream === opened) stream = null; });
  stream = opened;
  return answer;
}

async function begin(request) {
  const listened = stream;
  if (listened === null) return ask(request);
  await within(listened.arrived); // before that the server cannot tell one that is closed from one that comes
  request.headers.set("x-stream", listened.name);
  const response = await ask(request);
  if (response.headers.get("x-stream") === "closed") {
    await within(listened.over);
    if (stream === listened) stream = null;
  }
  return response;
}

window.fetch = (input, init) => {
  const { pathname } = new URL(input instanceof Request ? input.url : input, document.baseURI);
  if (pathname.endsWith("/queue/data")) return open(new Request(input, init));
  if (pathname.endsWith("/queue/join")) return begin(new Request(input, init));
  return ask(input, init);
};
