// A clip from the camera: what it sees is shown while it is recorded, and then goes the way of a clip that is chosen.

import { hand } from "./media.js";

const LONGEST = 60; // seconds: with RATE below what the app takes by default
const RATE = 2e6; // bits a second
const KINDS = ["video/mp4", "video/webm;codecs=vp8", "video/webm"]; // MP4 first: processors encode it without a loss of frames
const SIZE = { width: { ideal: 960 }, height: { ideal: 540 }, frameRate: { ideal: 30 } };

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds) % 60).padStart(2, "0")}`;

// What to do where the camera cannot be had, by the name of the browser's error.
export function refusal(name) {
  const words = {
    NotAllowedError: "The camera was refused: allow it for this page in the browser's settings",
    NotFoundError: "There is no camera here: choose a clip instead",
    NotReadableError: "The camera is in use elsewhere: close what uses it",
    SecurityError: "A camera is for pages over https, or on this machine: open the page so, or choose a clip",
    NotSupportedError: "This browser records no clips: choose one instead",
  };
  return words[name] ?? `The camera gave no picture (${name}): choose a clip instead`;
}

export function start({ element }) {
  const part = (name) => element.querySelector(`[data-part=${name}]`);
  const [begins, panel, seen, says, done, close] = ["begin", "panel", "seen", "says", "done", "close"].map(part);
  let now = null; // the recording that is under way: { stream, recorder, kept, timer }

  function say(words) {
    says.textContent = words;
  }

  function end() {
    const ended = now;
    now = null;
    clearInterval(ended?.timer);
    ended?.stream?.getTracks().forEach((track) => track.stop());
    seen.srcObject = null;
    panel.hidden = true;
    begins.focus();
  }

  function stop(kept) {
    if (!now?.recorder) { end(); return; }
    now.kept = kept;
    if (now.recorder.state !== "inactive") now.recorder.stop(); // then what was recorded comes, and "stop"
  }

  async function begin() {
    if (now) return;
    const mine = now = {};
    panel.hidden = false;
    done.disabled = true;
    say("Waiting for the camera …");
    close.focus();
    const failed = ({ name }) => { if (now === mine) say(refusal(name)); };
    if (!navigator.mediaDevices) { failed({ name: "SecurityError" }); return; }
    if (!window.MediaRecorder) { failed({ name: "NotSupportedError" }); return; }
    try {
      mine.stream = await navigator.mediaDevices.getUserMedia({ video: SIZE });
      if (now !== mine) { mine.stream.getTracks().forEach((track) => track.stop()); return; } // closed meanwhile
      record(mine);
    } catch (error) {
      failed(error);
    }
  }

  function record(mine) {
    const parts = [], kind = KINDS.find((each) => MediaRecorder.isTypeSupported(each));
    mine.recorder = new MediaRecorder(mine.stream, { mimeType: kind, videoBitsPerSecond: RATE });
    mine.recorder.addEventListener("dataavailable", ({ data }) => { if (data.size) parts.push(data); });
    mine.recorder.addEventListener("stop", () => {
      const type = mine.recorder.mimeType.split(";")[0];
      if (mine.kept && parts.length) hand([new File(parts, `recording.${type.split("/")[1]}`, { type })]);
      end();
    });
    mine.stream.getVideoTracks()[0].addEventListener("ended", () => stop(true)); // the camera was taken away
    seen.srcObject = mine.stream;
    mine.recorder.start();
    const since = performance.now();
    const tick = () => {
      const seconds = (performance.now() - since) / 1000;
      say(`${clock(seconds)} of ${clock(LONGEST)}`);
      if (seconds >= LONGEST) stop(true);
    };
    mine.timer = setInterval(tick, 250);
    tick();
    done.disabled = false;
    done.focus();
  }

  begins.addEventListener("click", begin);
  done.addEventListener("click", () => stop(true));
  close.addEventListener("click", () => stop(false));
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(false); });
  window.addEventListener("pagehide", () => stop(false));
}
