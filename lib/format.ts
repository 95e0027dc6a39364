/**
 * Sizes and times as people read them. Pure.
 */

const UNITS = ['KB', 'MB', 'GB', 'TB', 'PB'];

/** Decimal units: `999B`, `4.6GB`. */
export function decimalBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes}B`;
  let value = bytes;
  let unit = -1;
  // What would be shown as 1000.0 is one of the next unit.
  while (value >= 999.95 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(1)}${UNITS[unit] ?? 'KB'}`;
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How long ago a moment was; the date when that is a month or more. Both in seconds since 1970. */
export function age(then: number, now: number): string {
  const seconds = now - then;
  if (seconds < 45) return 'just now';
  if (seconds < 90) return '1m ago';
  if (seconds < 45 * MINUTE) return `${Math.round(seconds / MINUTE)}m ago`;
  if (seconds < 90 * MINUTE) return '1h ago';
  if (seconds < DAY) return `${Math.round(seconds / HOUR)}h ago`;
  if (seconds < 36 * HOUR) return '1d ago';
  if (seconds < 30 * DAY) return `${Math.round(seconds / DAY)}d ago`;
  return new Date(then * 1000).toISOString().slice(0, 10);
}
