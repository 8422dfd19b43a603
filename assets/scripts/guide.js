// What this page is, shown by itself to whoever opens it for the first time, and never again unless asked for.

const KEY = "idpruner-guide-seen";

export function start({ element }) {
  const guide = element.querySelector("#guide");

  function seen() {
    try { return localStorage.getItem(KEY) === "yes"; } catch { return true; } // no storage: rather never than always
  }

  guide.addEventListener("toggle", (event) => {
    if (event.newState === "closed") { try { localStorage.setItem(KEY, "yes"); } catch { /* private window */ } }
  });
  if (!seen()) guide.showPopover();
}
