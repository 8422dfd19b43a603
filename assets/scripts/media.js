// What is dropped on the image field, or chosen there, and is no image: Gradio's field would refuse it. It goes to the
// server through a button that nobody sees, whose upload puts it in the place of the image.

const FIELD = "#image", MORE = "video/*,.mkv,.avi";

const others = (files) => [...(files ?? [])].filter((file) => !file.type.startsWith("image/"));

export function hand(files) {
  const input = document.querySelector("#put-clip input[type=file]"), held = new DataTransfer();
  held.items.add(files[0]);
  input.files = held.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

// In the field, and ours: then Gradio does not hear of it.
function take(event, files) {
  if (!event.target.closest?.(FIELD) || !others(files).length) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  hand(others(files));
  if (event.type === "change") event.target.value = ""; // the same file may be chosen again
}

document.addEventListener("dragover", (event) => { if (event.target.closest?.(FIELD)) event.preventDefault(); });
document.addEventListener("drop", (event) => take(event, event.dataTransfer?.files), true);
document.addEventListener("change", (event) => { if (event.target.type === "file") take(event, event.target.files); }, true);
document.addEventListener("click", (event) => { // the dialog that is about to open offers clips too
  const input = event.target.closest?.(FIELD) && document.querySelector(`${FIELD} input[type=file]`);
  if (input && !input.accept.includes(MORE)) input.accept += `,${MORE}`;
}, true);
