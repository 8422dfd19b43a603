// A menu that can be searched keeps the chosen line in its field. Here: opening it marks that text, so that typing replaces it.
document.addEventListener("click", (event) => {
  if (event.target.matches?.("#method input, #model input")) event.target.select();
});
