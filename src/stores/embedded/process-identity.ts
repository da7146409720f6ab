import { readFile, readlink } from "node:fs/promises";

/** What tells a process from all others, as far as the system says it (Linux; elsewhere pids alone are known). */
export interface ProcessIdentity {
  /** Boot of the machine and space of pids: within it a pid means one process at a time. */
  system: string;
  /** In ticks since the boot: a pid is used again, a pid with this is not. */
  startedAt: string;
}

/** Of this process. Undefined where the system does not tell. */
export async function processIdentity(): Promise<ProcessIdentity | undefined> {
  try {
    const [boot, space] = await Promise.all([
      readFile("/proc/sys/kernel/random/boot_id", "utf8"),
      readlink("/proc/self/ns/pid")
    ]);
    const startedAt = startOf(await readFile("/proc/self/stat", "utf8"));
    return startedAt ? { system: `${boot.trim()} ${space}`, startedAt } : undefined;
  } catch {
    return undefined;
  }
}

/** `none` = no such process. A zombie is none: it holds no file. */
export async function processOf(pid: number): Promise<{ startedAt: string } | "none" | "unknown"> {
  try {
    process.kill(pid, 0);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ESRCH") return "none";
  }
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  if (text === undefined) return "unknown";
  const startedAt = startOf(text);
  if (fieldsOf(text)[0] === "Z") return "none";
  return startedAt ? { startedAt } : "unknown";
}

/** From the third field on: the second is the program's name, which may hold anything. */
function fieldsOf(text: string): string[] {
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** The 22nd field. */
function startOf(text: string): string | undefined {
  return fieldsOf(text)[19];
}
