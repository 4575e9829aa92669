'use strict';
const CLOSE_S = 0.015;   // no one hears or sees less
const JUMP_S = 0.2;      // what is further off is not caught up with by speed
const SWITCH_S = 0.03;   // a sound further off than this is put in place before it is heard
const SETTLE_MS = 400;   // after a jump an element is left alone for so long
const STUCK_MS = 1500;   // a jump that takes longer never ends: the element is loaded anew
const GATHER_MS = 2000;  // how long all wait for the slowest before they start together
const CATCH_UP_MS = 250; // between two changes of speed, each meant to make up the difference by the next
const HUSHED = 1e-5;     // a volume nobody hears. A browser may put a muted sound aside, and its clock with it; this one it plays
const canHush = (() => { const media = document.createElement('audio'); media.volume = 0.5; return media.volume === 0.5; })();
const hush = (media, isHushed) => { if (canHush) media.volume = isHushed ? HUSHED : 1; else media.muted = isHushed; };
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const spoken = document.querySelector('.spoken');
let chosen = null;       // label of the sound last asked for; cards that have it start with it
let playing = null;      // the sample that plays; one at a time

class Follower {         // an element that is kept at the position of another
  constructor(element) { this.element = element; this.jumpedAt = this.pacedAt = -Infinity;
    this.jumpTook_s = 0.1;
    element.addEventListener('seeked', () => { this.jumpTook_s = Math.min(1, (performance.now() - this.jumpedAt) / 1000); });
  }
  get runs() { const media = this.element; return !media.paused && !media.ended && media.readyState >= 2; }
  isReady(time_s) {
    const media = this.element;
    return Boolean(media.error) || media.duration <= time_s || (!media.seeking && media.readyState >= 3);
  }
  put(time_s) {
    const media = this.element;
    this.pace(1);
    if (Math.abs(media.currentTime - time_s) < 0.001) return;
    if (Number.isFinite(media.duration) && time_s >= media.duration) { media.pause(); media.currentTime = media.duration; return; }
    media.currentTime = time_s;
    this.jumpedAt = performance.now();
  }
  follow(time_s) {
    const now_ms = performance.now();
    if (!this.runs || this.element.seeking || now_ms - this.jumpedAt < SETTLE_MS || now_ms - this.pacedAt < CATCH_UP_MS) return;
    const ahead_s = this.element.currentTime - time_s;
    this.pacedAt = now_ms;
    if (Math.abs(ahead_s) > JUMP_S) this.put(time_s + this.jumpTook_s);
    else this.pace(Math.abs(ahead_s) < CLOSE_S ? 1 : Math.min(1.5, Math.max(0.5, 1 - 800 * ahead_s / CATCH_UP_MS)));
  }
  revive(time_s) {            // a jump that got stuck is begun again
    const media = this.element, now_ms = performance.now();
    if (!media.seeking) this.movingSince = now_ms;
    else if (now_ms - this.movingSince > STUCK_MS) {
      this.movingSince = now_ms;
      media.load();
      media.currentTime = time_s;
      media.play().catch(() => {});
    }
  }
  pace(rate) {
    if (this.element.playbackRate !== rate) this.element.playbackRate = rate;
  }
}

class Player {
  constructor(card) {
    this.card = card;
    this.article = card.querySelector('article');
    this.duration_s = parseFloat(card.dataset.duration);
    this.position_s = 0;
    this.isPlaying = false;
    this.sounds = new Map();  // label -> Follower, once they are needed
    this.video = card.querySelector('video');
    this.picture = this.video && new Follower(this.video);
    this.button = card.querySelector('.play');
    this.seekBar = card.querySelector('.seek');
    this.clock = card.querySelector('.clock');
    this.switches = [...card.querySelectorAll('.hear:not(:disabled)')];
    this.tracks = [...card.querySelectorAll('.track[data-src]')].filter(track => track.dataset.src);
    if (!this.button) return;
    const labels = this.switches.map(button => button.dataset.label);
    this.mark(labels[labels.length > 1 && labels[0] === 'real' ? 1 : 0]);
    this.listen();
  }
  get isUsable() { return Boolean(this.button) && this.tracks.length > 0; }
  listen() {
    this.button.addEventListener('click', () => this.toggle());
    this.switches.forEach(button => button.addEventListener('click', () => this.hear(button.dataset.label)));
    this.seekBar.addEventListener('input', () => this.seek(parseFloat(this.seekBar.value)));
    if (this.video) {
      this.video.addEventListener('click', () => this.toggle());
      this.video.addEventListener('error', () => this.lack('this browser cannot show the picture'));
    }
    this.card.querySelectorAll('.plot').forEach(plot => plot.addEventListener('click', event => {
      const box = plot.getBoundingClientRect();
      this.seek((event.clientX - box.left) / box.width * this.duration_s);
      this.hear(plot.closest('.track').dataset.label);
    }));
  }
  lack(sentence) {
    if (this.video && !this.video.getAttribute('src') && sentence.endsWith('picture')) return;  // its source was taken away
    const list = this.card.querySelector('.lacks'), item = document.createElement('li');
    if ([...list.children].some(other => other.textContent === sentence)) return;
    item.textContent = sentence;
    list.append(item);
  }
  near() {                    // the picture's first frame is fetched
    if (this.video && !this.video.getAttribute('src')) { this.video.preload = 'metadata'; this.video.src = this.video.dataset.src; }
  }
  far() {                     // memory is given back; the position is kept
    if (this.isPlaying) return;
    for (const { element } of this.sounds.values()) { element.removeAttribute('src'); element.load(); element.remove(); }
    this.sounds.clear();
    if (this.video && this.video.getAttribute('src')) { this.video.removeAttribute('src'); this.video.load(); }
  }
  open() {
    this.near();
    for (const track of this.tracks) {
      const label = track.dataset.label;
      if (this.sounds.has(label)) continue;
      const audio = document.createElement('audio');
      audio.preload = 'auto';
      audio.preservesPitch = false;
      hush(audio, label !== this.heard);
      audio.src = track.dataset.src;
      audio.addEventListener('error', () => { if (audio.getAttribute('src')) this.lack('this browser cannot play the sound ' + label); });
      track.append(audio);
      this.sounds.set(label, new Follower(audio));
    }
  }
  get all() { return this.picture ? [...this.sounds.values(), this.picture] : [...this.sounds.values()]; }
  get leader() {              // the sound that is heard; after its end, whatever still runs
    const heard = this.sounds.get(this.heard);
    return heard && heard.runs ? heard : this.all.find(one => one.runs);
  }
  mark(label) {
    this.heard = label;
    this.switches.forEach(button => button.setAttribute('aria-pressed', String(button.dataset.label === label)));
    this.tracks.forEach(track => track.classList.toggle('heard', track.dataset.label === label));
  }
  hear(label) {
    if (!this.switches.some(button => button.dataset.label === label)) return;
    chosen = label;
    const leader = this.isPlaying && !this.gathering && this.leader, now_s = leader ? leader.element.currentTime : this.position_s;
    this.mark(label);
    const next = this.sounds.get(label);
    if (next) {
      next.pace(1);
      if (Math.abs(next.element.currentTime - now_s) > SWITCH_S) next.put(now_s);
    }
    for (const [name, { element }] of this.sounds) hush(element, name !== label);
    spoken.textContent = 'Hearing ' + label;
  }
  toggle() { if (this.isPlaying) this.pause(); else this.play(); }
  play() {
    if (!this.isUsable) return;
    if (playing && playing !== this) playing.pause();
    playing = this;
    if (chosen !== null && chosen !== this.heard) { const last = chosen; this.hear(last); }
    this.open();
    if (this.position_s >= this.duration_s - 0.05) this.position_s = 0;
    this.isPlaying = true;
    this.button.textContent = '❚❚ Pause';
    this.gather();
    this.show();
    requestAnimationFrame(() => this.tick());
  }
  gather() {                  // all go to the position, wait for each other, and start together
    const gathering = this.gathering = {}, since_ms = performance.now();
    for (const one of this.all) { one.element.pause(); one.put(this.position_s); }
    const start = () => {
      if (this.gathering !== gathering) return;
      const mayWait = performance.now() - since_ms < GATHER_MS;
      if (mayWait && !this.all.every(one => one.isReady(this.position_s))) { setTimeout(start, 15); return; }
      this.gathering = null;
      this.startedAt = performance.now();
      for (const one of this.all) {
        one.movingSince = one.pacedAt = this.startedAt;
        one.jumpedAt = -Infinity;
        if (!(one.element.duration <= this.position_s)) one.element.play().catch(() => {});
      }
    };
    start();
  }
  pause() {
    if (!this.isPlaying) return;
    const leader = this.gathering ? null : this.leader;
    if (leader) this.position_s = Math.min(leader.element.currentTime, this.duration_s);
    this.stop();
  }
  stop() {
    this.isPlaying = false;
    this.gathering = null;
    for (const one of this.all) { one.element.pause(); one.put(this.position_s); }
    this.button.textContent = '▶ Play';
    this.show();
  }
  seek(time_s) {
    this.position_s = Math.min(Math.max(time_s, 0), this.duration_s);
    if (this.isPlaying) this.gather(); else this.all.forEach(one => one.put(this.position_s));
    this.show();
  }
  tick() {
    if (!this.isPlaying) return;
    if (this.gathering) { requestAnimationFrame(() => this.tick()); return; }
    this.all.forEach(one => one.revive(this.position_s));
    const leader = this.leader;
    if (leader && !leader.element.seeking) {
      this.position_s = leader.element.currentTime;
      leader.pace(1);
      for (const one of this.all) if (one !== leader) one.follow(this.position_s);
    }
    const isOver = !leader && performance.now() - this.startedAt > 3000 || this.all.every(one => one.element.ended);
    if (this.position_s >= this.duration_s || isOver) { this.position_s = this.duration_s; this.stop(); return; }
    this.show();
    if (calm.matches) setTimeout(() => this.tick(), 250); else requestAnimationFrame(() => this.tick());
  }
  show() {
    this.card.style.setProperty('--at', (100 * this.position_s / this.duration_s).toFixed(2) + '%');
    this.seekBar.value = this.position_s;
    const clock = this.position_s.toFixed(1) + ' / ' + this.duration_s.toFixed(1) + ' s';
    if (this.clock.textContent !== clock) { this.clock.textContent = clock; this.seekBar.setAttribute('aria-valuetext', clock); }
  }
}
