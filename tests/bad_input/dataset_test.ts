/** Datasets that cannot be trained on: one message with every problem, exit code 2, nothing written. */
import { readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import { ffmpeg } from "../data/media.ts";
import { assertRefused, command, trainWords, withCopies } from "./command.ts";

/** What a test does to the copied clips, and what the refusal says. */
interface Case {
  readonly spoil: (clips: string) => void | Promise<void>;
  readonly says: readonly RegExp[];
}

const clip = (clips: string) => join(clips, "videos/ball.mp4");
const list = (clips: string, name: string) => readFileSync(join(clips, name), "utf8");
const firstVideo = (clips: string, path: string) =>
  writeFileSync(join(clips, "videos.txt"), list(clips, "videos.txt").replace("videos/ball.mp4", path));

const CASES: Readonly<Record<string, Case>> = {
  "a missing list of prompts": {
    spoil: (clips) => rmSync(join(clips, "prompts.txt")),
    says: [/prompts\.txt: no such file/],
  },
  "a prompt too many": {
    spoil: (clips) => writeFileSync(join(clips, "prompts.txt"), list(clips, "prompts.txt") + "a fifth\n"),
    says: [/prompts\.txt has 5 entries and videos\.txt has 4: prompts\.txt line 5 \("a fifth"\) has no partner/],
  },
  "prompts too few": {
    spoil: (clips) => writeFileSync(join(clips, "prompts.txt"), "one\ntwo\n"),
    says: [/prompts\.txt has 2 entries and videos\.txt has 4: videos\.txt line 3 \("videos\/cells\.mp4"\) has no/],
  },
  "a blank line, which would shift pairs": {
    spoil: (clips) => writeFileSync(join(clips, "prompts.txt"), "one\n\ntwo\nthree\nfour\n"),
    says: [/prompts\.txt line 2: is blank; delete the line or fill it in/],
  },
  "prompts in Latin-1": {
    spoil: (clips) => writeFileSync(join(clips, "prompts.txt"), new TextEncoder().encode("a\nb\nc\nd\n").with(2, 0xe9)),
    says: [/prompts\.txt: line 2 is not UTF-8 \(byte 0xe9 at byte 1 of the line\), expected UTF-8/],
  },
  "a missing video": {
    spoil: (clips) => rmSync(clip(clips)),
    says: [/videos\.txt line 1: "videos\/ball\.mp4" does not exist/],
  },
  "an empty video": {
    spoil: (clips) => writeFileSync(clip(clips), ""),
    says: [/videos\.txt line 1: "videos\/ball\.mp4" is empty \(0 bytes\)/],
  },
  "a video cut short": {
    spoil: (clips) => writeFileSync(clip(clips), readFileSync(clip(clips)).subarray(0, 4000)),
    says: [/videos\/ball\.mp4: is cut short: promises 17 frames but holds 15/, /copy or export the file again/],
  },
  "text named like a video": {
    spoil: (clips) => writeFileSync(clip(clips), "this is not a video\n"),
    says: [/videos\/ball\.mp4: is a text file \(it begins with "this is not a video\\n"\), expected mp4, mov/],
  },
  "a playlist named like a video": {
    spoil: (clips) => writeFileSync(clip(clips), "ffconcat version 1.0\nfile /etc/passwd\n"),
    says: [/videos\/ball\.mp4: is a text file \(it begins with "ffconcat version 1\.0/],
  },
  "a sound file named like a video": {
    spoil: (clips) => ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", clip(clips)),
    says: [/videos\/ball\.mp4: has no video stream \(only sound or data\)/],
  },
  "a path that leads out of the dataset": {
    spoil: (clips) => firstVideo(clips, "../outside.mp4"),
    says: [/videos\.txt line 1: "\.\.\/outside\.mp4" leads out of the dataset folder; allow it/],
  },
  "an absolute path": {
    spoil: (clips) => firstVideo(clips, "/etc/passwd"),
    says: [/videos\.txt line 1: "\/etc\/passwd" is an absolute path that leads out of the dataset folder; allow it/],
  },
  "a symbolic link out of the dataset": {
    spoil: (clips) => {
      rmSync(clip(clips));
      symlinkSync("/etc/passwd", clip(clips));
    },
    says: [/videos\.txt line 1: "videos\/ball\.mp4" leads out of the dataset folder through a symbolic link/],
  },
  "several problems": {
    spoil: (clips) => {
      writeFileSync(clip(clips), "");
      rmSync(join(clips, "videos/cells.mp4"));
    },
    says: [/2 problems/, /line 1: "videos\/ball\.mp4" is empty/, /line 3: "videos\/cells\.mp4" does not exist/],
  },
};

for (const [name, { spoil, says }] of Object.entries(CASES)) {
  Deno.test(`train refuses ${name}`, () =>
    withCopies(async (folder) => {
      await spoil(join(folder, "clips"));
      await assertRefused(folder, { says }, () => command(trainWords(folder)));
    }));
}

Deno.test("train refuses a dataset folder that is not there", () =>
  withCopies(async (folder) => {
    rmSync(join(folder, "clips"), { recursive: true });
    const says = [/data_root: ".*clips" does not exist/];
    await assertRefused(folder, { says }, () => command(trainWords(folder)));
  }));

Deno.test("data check lists every broken clip at once with exit code 2 and writes nothing", () =>
  withCopies(async (folder) => {
    const clips = join(folder, "clips");
    await CASES["a video cut short"]!.spoil(clips);
    writeFileSync(join(clips, "videos/cells.mp4"), "text");
    const { code, out } = await command(["data", "check", `--data_root=${clips}`]);
    assert.equal(code, 2);
    assert.match(out, /^problem: videos\/ball\.mp4: is cut short/m);
    assert.match(out, /^problem: videos\/cells\.mp4: is a text file/m);
    assert.equal(out.match(/^problem: /gm)!.length, 2);
  }));
