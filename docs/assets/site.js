// A table or a block that scrolls sideways can be reached, and scrolled, with the keyboard.
document$.subscribe(() => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    each.tabIndex = 0;
  }
});

// The buttons beside every block of code are a navigation to screen readers, each with a name of its own.
let blocks = 0;
const named = () => {
  for (const each of document.querySelectorAll(".md-code__nav:not([aria-label])")) {
    blocks += 1;
    each.setAttribute("aria-label", `Block of code ${blocks}`);
  }
};
new MutationObserver(named).observe(document.body, {childList: true, subtree: true});
named();
