(() => {
  const list = document.querySelector('.cards');
  if (!list) return;
  const cards = [...list.children], players = new Map();
  const player = card => { if (!players.has(card)) players.set(card, new Player(card)); return players.get(card); };
  let current = null;

  // Players are made, and have sources, as cards come near; far ones give theirs back: a page of hundreds opens at once.
  const near = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (entry.isIntersecting) player(entry.target).near();
      else if (players.has(entry.target)) players.get(entry.target).far();
    }
  }, { rootMargin: '700px' });
  cards.forEach(card => near.observe(card));

  const sortBy = document.querySelector('.sort'), order = document.querySelector('.order');
  const find = document.querySelector('.find'), count = document.querySelector('.count');
  const numbers = new Map(cards.map(card => [card, JSON.parse(card.dataset.numbers)]));
  const texts = new Map(cards.map(card =>
    [card, [...card.querySelectorAll('h3, .caption')].map(part => part.textContent).join(' ').toLowerCase()]));
  let isRising = true;

  const quiet = () => { if (playing) playing.pause(); };  // an element that is moved stops by itself: better all at once
  const sort = () => {
    quiet();
    const place = new Map(cards.map((card, index) => [card, index]));
    const value = card => sortBy.value === '' ? place.get(card) : numbers.get(card)[sortBy.value];
    const told = cards.filter(card => value(card) !== undefined), untold = cards.filter(card => value(card) === undefined);
    told.sort((a, b) => isRising || sortBy.value === '' ? value(a) - value(b) : value(b) - value(a));
    list.append(...told, ...untold);
    order.disabled = sortBy.value === '';
    order.textContent = isRising ? 'Lowest first' : 'Highest first';
    const option = sortBy.selectedOptions[0], group = option.parentElement.label;
    spoken.textContent = 'Sorted by ' + option.text + (group ? ' of ' + group + ', ' + order.textContent.toLowerCase() : '');
  };
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      card.hidden = !words.every(word => texts.get(card).includes(word));
      shown += card.hidden ? 0 : 1;
    }
    if (playing && playing.card.hidden) playing.pause();
    count.textContent = words.length ? shown + ' of ' + cards.length + ' samples' : cards.length + ' samples';
  };
  sortBy.addEventListener('change', sort);
  order.addEventListener('click', () => { isRising = !isRising; sort(); });
  find.addEventListener('input', filter);

  const become = card => {
    if (card === current) return;
    if (current) current.classList.remove('current');
    current = card;
    card.classList.add('current');
    if (player(card).isUsable) player(card).open();  // so that all its sounds are there when it is played
  };
  list.addEventListener('focusin', event => become(event.target.closest('.card')));
  list.addEventListener('click', event => { const card = event.target.closest('.card'); if (card) become(card); });

  const shown = () => [...list.children].filter(card => !card.hidden);
  const isInView = card => { const box = card.getBoundingClientRect(); return box.bottom > 120 && box.top < innerHeight; };
  const here = () => {        // the sample that keys are for: the one worked with while it is in view, else the first in view
    if (current && !current.hidden && isInView(current)) return current;
    return shown().find(isInView) || null;
  };
  const go = step => {
    const all = shown(), at = here(), place = all.indexOf(at);
    const isFirst = at && at !== current && step > 0;  // the first key press goes to the sample in view
    const next = all[isFirst ? place : Math.min(Math.max(place + step, 0), all.length - 1)];
    if (!next) return;
    const goesOn = playing && playing.isPlaying && playing.card !== next;
    become(next);
    next.scrollIntoView({ block: 'start' });
    player(next).article.focus({ preventScroll: true });
    if (goesOn) player(next).play();
  };
  const hear = key => {
    const card = here();
    const button = card && card.querySelector('.hear[data-key="' + key + '"]:not(:disabled)');
    if (button) { become(card); player(card).hear(button.dataset.label); }
  };
  const hearNext = () => {
    const card = here(), labels = card ? player(card).switches.map(button => button.dataset.label) : [];
    if (labels.length) { become(card); player(card).hear(labels[(labels.indexOf(player(card).heard) + 1) % labels.length]); }
  };
  const skip = (event, seconds) => {
    const card = here();
    if (card && card === current && player(card).isUsable) { player(card).seek(player(card).position_s + seconds); event.preventDefault(); }
  };
  const space = event => {
    const target = event.target, pressed = target.getAttribute('aria-pressed');
    if (target.closest('a, summary') || target.closest('button') && pressed !== 'true') return;  // what has the focus is pressed
    const card = here();
    if (!card || !player(card).isUsable) return;
    become(card);
    player(card).toggle();
    event.preventDefault();
  };
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest('input[type=search], select')) return;
    const isSlider = event.target.matches('input[type=range]');
    if (event.key === ' ') space(event);
    else if (event.key === 'j' || event.key === 'k') go(event.key === 'j' ? 1 : -1);
    else if (event.key === 's') hearNext();
    else if (/^[1-9]$/.test(event.key)) hear(event.key);
    else if (event.key.startsWith('Arrow') && !isSlider && !event.target.closest('.scroll')) {
      if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') skip(event, event.key === 'ArrowRight' ? 1 : -1);
    }
  });
  document.addEventListener('keyup', event => {  // a button that was not pressed by the space bar is not released by it
    if (event.key === ' ' && event.target.getAttribute && event.target.getAttribute('aria-pressed') === 'true') event.preventDefault();
  });
})();
