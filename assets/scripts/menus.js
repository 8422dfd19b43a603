// A menu that can be searched keeps the chosen line in its field. Here: opening it marks that text, so that typing replaces it.

document.addEventListener("click", (event) => {
  if (event.target.matches?.("#method input, #model input")) event.target.select();
  if (event.target.closest?.("#loading button")) document.querySelector("#stop").click(); // the same for a model on its way
  if (event.target.closest?.(".to-photographs")) document.querySelector("#photographs").click();
});
