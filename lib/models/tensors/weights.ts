/** Checkpoint tensors into GPU memory: names and shapes are checked in full before any byte is uploaded. */
import { UserErrors } from "../../errors.ts";
import type { Session } from "../../gpu/session.ts";
import { codesPerWord } from "../../../kernels/matrix/dequantise.ts";
import {
  decodeF32,
  encodeF32,
  FLOAT_DTYPES,
  floatBytes,
  floatType,
  storageBytes,
  type StorageType,
} from "../../io/safetensors/half.ts";
import { findNonFinite } from "../../io/safetensors/finite.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import type { Tensor } from "../../plan/tensor.ts";
import { quantise } from "./quantise.ts";

/** Bytes read from the file at a time; a model is never held in host memory. */
const BLOCK_BYTES = 16 * 2 ** 20;

/** Parts of a layer's name up to every dot, numbers taken as equal: a layer of any block stands for those of all. */
function* layersOf(name: string): Generator<string> {
  const general = name.replace(/\d+/g, "#");
  for (let dot = general.indexOf("."); dot >= 0; dot = general.indexOf(".", dot + 1)) yield general.slice(0, dot);
}

/**
 * Names in `source` that a model of these shapes has no use for. diffusers ignores them likewise, but names those that
 * belong to a layer of the model too: a block more than the config says, the scale of a quantised weight, an adapter.
 * They stand under `foreign`.
 */
export function unusedTensors(
  source: TensorSource,
  shapes: ReadonlyMap<string, readonly number[]>,
): { readonly unused: readonly string[]; readonly foreign: readonly string[] } {
  const layers = new Set([...shapes.keys()].map((name) => name.replace(/\d+/g, "#").replace(/\.[^.]*$/, "")));
  const others = [...source.tensors.keys()].filter((name) => !shapes.has(name));
  const isForeign = (name: string) => layersOf(name).some((layer) => layers.has(layer));
  return { unused: others.filter((name) => !isForeign(name)), foreign: others.filter(isForeign) };
}

/**
 * Checks that `source` holds the named shapes in a floating-point type. Tensors outside the model's layers may be
 * there as well.
 *
 * @param where where the tensors come from, for messages.
 * @throws {UserErrors} listing every missing or mis-shaped tensor, and those that a layer has no place for.
 */
export function checkTensors(
  source: TensorSource,
  shapes: ReadonlyMap<string, readonly number[]>,
  where: string,
): void {
  const problems: string[] = [];
  for (const [name, shape] of shapes) {
    const info = source.tensors.get(name);
    if (info === undefined) problems.push(`missing "${name}" [${shape}]`);
    else if (`${info.shape}` !== `${shape}`) problems.push(`"${name}" has shape [${info.shape}]: expected [${shape}]`);
    else if (floatType(info.dtype) === undefined) {
      problems.push(`"${name}" is stored as ${info.dtype}: cogtune reads ${FLOAT_DTYPES}`);
    }
  }
  for (const name of unusedTensors(source, shapes).foreign) {
    problems.push(
      /(scale|absmax|quant_\w+|SCB|zeros?|zero_point)(_\w+)?$/.test(name)
        ? `"${name}" belongs to a quantised weight: cogtune reads weights without scales`
        : `"${name}" has no place in the model that config.json describes`,
    );
  }
  if (problems.length > 0) {
    const shown = problems.length > 12 ? [...problems.slice(0, 12), `and ${problems.length - 12} more`] : problems;
    throw new UserErrors(
      `Cannot use the weights in ${where}`,
      shown,
      "weights and the config.json beside them must belong together; get both from one place, without quantisation",
    );
  }
}

/**
 * Uploads checkpoint tensors to the resident tensors of the same names, converting to their storage types on the way.
 *
 * @param options.finiteIn where the tensors come from, if every value is to be looked at: 2.4 ns each on one core of a
 * busy server, which a run pays once, but not every pass of an encoder whose results are looked at.
 * @throws {UserErrors} naming the tensors that hold NaN or infinity.
 */
export async function uploadTensors(
  session: Session,
  source: TensorSource,
  tensors: ReadonlyMap<string, Tensor>,
  { finiteIn }: { readonly finiteIn?: string } = {},
): Promise<void> {
  const broken = new Set<string>();
  for (const [name, tensor] of tensors) {
    const stored = floatType(source.tensors.get(name)!.dtype)!;
    const elementBytes = floatBytes(stored);
    const target = tensor.dtype as StorageType;
    const isAsStored = stored === target && tensor.quantised === undefined;
    // Parts of a quantised tensor hold whole groups of four scales.
    const unit = 4 * (tensor.quantised?.block ?? 1);
    const step = Math.max(1, Math.floor(BLOCK_BYTES / elementBytes / unit)) * unit;
    for (let from = 0; from < tensor.size; from += step) {
      const to = Math.min(from + step, tensor.size);
      const bytes = source.readBytes(name, from * elementBytes, to * elementBytes);
      const values = isAsStored ? undefined : decodeF32(bytes, stored);
      if (finiteIn !== undefined && findNonFinite(values ?? bytes, values === undefined ? target : "f32") >= 0) {
        broken.add(name);
      }
      if (values === undefined) session.write(tensor, bytes, from * elementBytes);
      else writeValues(session, tensor, values, from);
      await session.flush();
    }
  }
  if (broken.size === 0) return;
  throw new UserErrors(
    `Cannot use the weights in ${finiteIn}`,
    [...broken].map((name) => `"${name}" holds NaN or infinity`),
    "the file is damaged, or comes from a run that diverged: get it again, or take an earlier one",
  );
}

/**
 * Writes f32 values from element `first` of a tensor on, in its storage type; parts of a quantised one hold whole
 * blocks.
 */
export function writeValues(session: Session, tensor: Tensor, values: Float32Array<ArrayBuffer>, first = 0): void {
  const type = tensor.dtype as StorageType;
  if (tensor.quantised === undefined) {
    return session.write(tensor, encodeF32(values, type), first * storageBytes[type]);
  }
  const { kind, block, codes, scales } = tensor.quantised;
  const quantised = quantise(kind, values, block);
  session.write(codes, quantised.codes, first / codesPerWord(kind) * 4);
  const scaleType = scales.dtype as StorageType;
  session.write(scales, encodeF32(quantised.scales, scaleType), first / block * storageBytes[scaleType]);
}
