/**
 * Families of kernels that offer several ways to compute the same thing. A family lists its variants in one file; a
 * launch takes the one that the target's table of measured choices names (lib/tune makes it), else the one that the
 * family prefers unmeasured.
 */
import type { NamedLaunch, Problem, Target, Work } from "./kernel.ts";

/** One way to compute what a family computes. */
export interface Variant<Spec, Shape> {
  /** Unique in the family and stable: tables of choices and checkpoints hold it. */
  readonly name: string;
  /** Whether it can compute this on this device. */
  applies(target: Target, spec: Spec, shape: Shape): boolean;
  work(target: Target, spec: Spec, shape: Shape): Work;
}

/** What a family of kernels computes, in how many ways, and what a tuner needs to compare them. */
export interface Family<Spec, Shape> {
  readonly name: string;
  readonly variants: readonly Variant<Spec, Shape>[];
  /** Name of the variant that is run where nothing was measured. */
  prefer(target: Target, spec: Spec, shape: Shape): string;
  /** The simplest variant, which runs on every device: what the others are checked against. */
  readonly twin: string;
  /** What decides besides the target which variant is the fastest. */
  traits(spec: Spec, shape: Shape): Readonly<Record<string, string | number | boolean>>;
  /** Elements of every operand by name. */
  operands(spec: Spec, shape: Shape): Readonly<Record<string, number>>;
  /** What operands hold when variants are compared, where noise would not do; see {@linkcode Problem}. */
  readonly constants?: Problem["constants"];
  /** A shape so small that the twin takes no time, with an edge on every side. */
  probe(shape: Shape): Shape;
}

function problemOf<Spec, Shape>(family: Family<Spec, Shape>, target: Target, spec: Spec, shape: Shape): Problem {
  const { name, variants, twin } = family;
  const traits = Object.entries(family.traits(spec, shape)).map(([trait, value]) => `${trait}=${value}`);
  const key = `${name}(${[...(target.mixed ? ["mixed"] : []), ...traits].join(",")})`;
  const candidates = () => variants.filter((variant) => variant.applies(target, spec, shape)).map(({ name }) => name);
  const preferred = family.prefer(target, spec, shape);
  const measured = target.choices.get(key);
  return {
    family: name,
    key,
    mixed: target.mixed,
    // A table may come from a version with other variants.
    chosen: measured !== undefined && candidates().includes(measured) ? measured : preferred,
    preferred,
    twin,
    candidates,
    work: (wanted) => variants.find(({ name }) => name === wanted)!.work(target, spec, shape),
    operands: () => family.operands(spec, shape),
    constants: family.constants ?? {},
    probe: () => problemOf(family, target, spec, family.probe(shape)),
  };
}

/** The launches of the variant that is chosen for a problem; the first of them carries the problem. */
export function solve<Spec, Shape>(family: Family<Spec, Shape>, target: Target, spec: Spec, shape: Shape): Work {
  const problem = problemOf(family, target, spec, shape);
  const { launches, ...rest } = problem.work(problem.chosen);
  return { ...rest, launches: launches.map((named, i) => i > 0 ? named : withProblem(named, problem)) };
}

function withProblem({ launch, writes }: NamedLaunch, problem: Problem): NamedLaunch {
  return { launch: { ...launch, problem }, writes };
}
