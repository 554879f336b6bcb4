// theme.js - before anything is painted: light, dark, or what the system says.
(() => {
    let t = null;
    try { t = JSON.parse(localStorage.getItem('drover.theme')); } catch { /* as the system says */ }
    if (t === 'light' || t === 'dark') document.documentElement.dataset.theme = t;
})();
