// The link to what the page shows. The server writes it and says what of an opened one it did not take; here it becomes a
// whole address and goes to the clipboard, or stands selected where that is not allowed.

export function start({ element, props, trigger, watch }) {
  const panel = element.querySelector("template").content.cloneNode(true).querySelector("section");
  (element.closest(".gradio-container") ?? document.body).append(panel); // here the component would tidy it away
  const piece = (name) => panel.querySelector(`[data-part="${name}"]`);
  let turn = 0;

  async function copied(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { return false; } // none where the page is not secure
  }

  async function show() {
    const { told } = props;
    if (!told) return;
    const link = piece("link");
    link.hidden = told.query === null;
    piece("title").textContent = told.title;
    piece("status").textContent = told.lead;
    piece("notes").replaceChildren(...told.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    if (!panel.matches(":popover-open")) panel.showPopover();
    if (told.query === null) return;
    link.value = `${location.origin}${location.pathname}?${told.query}`;
    link.focus();
    link.select();
    link.scrollLeft = 0;
    piece("status").textContent = (await copied(link.value)) ? "Copied." : "Selected: copy it with Ctrl C or ⌘ C.";
  }

  element.addEventListener("click", (event) => {
    if (event.target.closest('[data-part="copy"]')) trigger("copy", { turn: ++turn });
  });
  piece("close").addEventListener("click", () => panel.hidePopover());
  watch("told", show);
  show(); // it may have been told before this module came
}
