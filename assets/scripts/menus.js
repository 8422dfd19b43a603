// Menus. One that can be searched keeps the chosen line in its field: opening it marks that text, so that typing replaces it.
// A line that is clicked, or taken by Enter, is a choice, which the menu's own hidden button tells the server (`chosen` in
// app/web/events.py); a menu that is left otherwise stays as it was.

document.addEventListener("click", (event) => {
  if (event.target.matches?.("#method input, #model input")) event.target.select();
  if (event.target.closest?.("#loading button")) document.querySelector("#stop").click(); // the same for a model on its way
  if (event.target.closest?.(".to-photographs")) document.querySelector("#photographs").click();
});

const isMenu = (target) => Boolean(target.matches?.("[role=combobox]"));
let chose = false; // whether the last press of a button or key takes a line, which closes the menu a moment later

document.addEventListener("mousedown", (event) => { chose = Boolean(event.target.closest?.("[role=option]")); }, true);
document.addEventListener("keydown", (event) => { chose = isMenu(event.target) && event.key === "Enter"; }, true);
document.addEventListener("focusout", (event) => {
  if (!chose || !isMenu(event.target)) return;
  chose = false;
  document.getElementById(`${event.target.closest(".block").id}-chosen`)?.click();
});
