// Loaded before the first paint, so that the chosen colours do not flash.
(() => {
  const chosen = localStorage.getItem("tidegate-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
