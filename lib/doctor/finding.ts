/**
 * What `doctor` finds out: one fact about this installation, and the command that mends it.
 */

export type Status = 'ok' | 'warning' | 'error' | 'skipped';

export interface Finding {
  /** What was looked at, in snake_case. */
  readonly name: string;
  readonly status: Status;
  readonly message: string;
  /** The command that mends it; `null` where nothing is to be mended or no command does. */
  readonly fix: string | null;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export function ok(name: string, message: string): Finding {
  return { name, status: 'ok', message, fix: null };
}

export function skipped(name: string, message: string): Finding {
  return { name, status: 'skipped', message, fix: null };
}

export function warning(name: string, message: string, fix: string | null): Finding {
  return { name, status: 'warning', message, fix };
}

export function problem(name: string, message: string, fix: string | null): Finding {
  return { name, status: 'error', message, fix };
}
