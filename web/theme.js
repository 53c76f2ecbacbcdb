// Sets the theme before the first paint. It is no module, because modules run after that. ui/theme.js changes the theme later.
(function () {
  try {
    var theme = localStorage.getItem('helve.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch (e) { /* A browser without storage has the theme of its system. */ }
})();
