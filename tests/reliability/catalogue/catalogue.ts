/**
 * What can go wrong, fault by fault, and the tests that show what the program then does. The files beside this one hold
 * one list each; `catalogue_test.ts` checks that no fault is missing and that every named test exists.
 */

/** One fault, and the tests in which the program meets it. */
export interface Fault {
  /** Family and number, such as `CK1`: what reports call the fault by. */
  readonly id: string;
  /** What goes wrong. */
  readonly fault: string;
  /** `file > part of the test's name`, with as much of the name as stands in the file in one piece. */
  readonly tests: readonly string[];
  /** Why no test is possible or the program cannot meet the fault; absent where a test shows what it does. */
  readonly instead?: string;
}

/** Which file holds which families, and how many faults each family has. */
export const FAMILIES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  storage: { CK: 22, FS: 16 },
  intake: { DA: 30 },
  cache: { CA: 15 },
  model_files: { ST: 30 },
  numerics: { NU: 14 },
  machine: { GP: 12, HM: 6 },
  ranks: { RK: 18 },
  lifecycle: { SG: 10 },
  config: { CF: 19 },
  resume: { RS: 12 },
  downloads: { NW: 15 },
  dashboard: { HT: 12 },
  programs: { FF: 10, SB: 5 },
};
