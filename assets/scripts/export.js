// The button of the export, and its panel: a popover that Escape closes, while what is under way goes on.

export function start({ element, trigger }) {
  element.addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    const panel = document.getElementById("export-panel");
    panel.popover = "auto";
    panel.setAttribute("aria-label", "Export");
    panel.showPopover();
    trigger("make", {});
  });
}
