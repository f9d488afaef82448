/** Files that would make a video program open others, run out of memory or take a name for something else. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { readText } from "../../../lib/data/dataset/text_list.ts";
import { writeLists } from "../../../lib/data/dataset/write_lists.ts";
import { checkDataset } from "../../../lib/data/samples/dataset_check.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeImage } from "../../../lib/data/video/video.ts";
import { ffmpeg, makeClip, messageOf, stretch, withFolder } from "../media.ts";

/** What names other files or addresses, by a name that promises a clip. */
const PLAYLISTS: Readonly<Record<string, string>> = {
  "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
  "hls.ts": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
  "key.mp4": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/passwd"\n#EXTINF:1,\nx.ts\n',
  "concat.mkv": "ffconcat version 1.0\nfile secret.mp4\n",
  "plain_concat.mp4": "file 'secret.mp4'\n",
  "dash.mp4": '<?xml version="1.0"?>\n<MPD><Period><BaseURL>file:///etc/passwd</BaseURL></Period></MPD>\n',
  "sdp.avi": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
  "smooth.mp4": "<SmoothStreamingMedia/>\n",
  "list.gif": "[playlist]\nFile1=secret.mp4\n",
  "subtitle.flv": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
  "script.mov": "#!/bin/sh\ntouch pwned\n",
};

Deno.test("playlists are refused by what they hold, whatever they are called", () =>
  withFolder(async (folder) => {
    await makeClip(join(folder, "secret.mp4"), "32x16", 8, 3);
    for (const [name, text] of Object.entries(PLAYLISTS)) {
      await Deno.writeTextFile(join(folder, name), text);
      const says = /: is (a text file|an HTML page) \(it begins with .*\), expected mp4, mov/;
      assert.match(await messageOf(probe(join(folder, name), name)), says, name);
    }
  }));

/** A picture that claims a size: the first bytes of each format, with the size in it. */
const CLAIMS: Readonly<Record<string, (side: number) => Uint8Array<ArrayBuffer>>> = {
  "bomb.bmp": (side) => {
    const view = new DataView(new ArrayBuffer(54 + 64));
    view.setUint16(0, 0x424d);
    view.setUint32(2, 118, true);
    view.setUint32(10, 54, true);
    view.setUint32(14, 40, true);
    view.setInt32(18, side, true);
    view.setInt32(22, side, true);
    view.setUint16(26, 1, true);
    view.setUint16(28, 24, true);
    return new Uint8Array(view.buffer);
  },
  "bomb.gif": (side) =>
    Uint8Array.of(
      ...new TextEncoder().encode("GIF89a"),
      ...[side & 255, side >> 8, side & 255, side >> 8, 0x80, 0, 0, 0, 0, 0, 255, 255, 255],
      ...[0x2c, 0, 0, 0, 0, side & 255, side >> 8, side & 255, side >> 8, 0, 2, 2, 0x4c, 1, 0, 0x3b],
    ),
};

Deno.test("a size that would fill the memory is refused before anything is decoded", () =>
  withFolder(async (folder) => {
    for (const [name, claim] of Object.entries(CLAIMS)) {
      const path = join(folder, name);
      await Deno.writeFile(path, claim(30_000));
      const says = new RegExp(`^${name}: has frames of \\d+x\\d+, expected 1 to 67108864 pixels`);
      assert.match(await messageOf(probe(path, name)), says);
      const decoding = decodeImage(path, { geometry: stretch(8, 8), label: name });
      assert.match(await messageOf(decoding), new RegExp(`^${name}: 0 of 1 frames could be decoded`));
    }
    // A whole picture of one colour is small as a file.
    const png = join(folder, "bomb.png");
    await ffmpeg("-f", "lavfi", "-i", "color=black:s=8200x8200", "-frames:v", "1", "-pix_fmt", "gray", png);
    assert.ok((await Deno.stat(png)).size < 1_000_000);
    assert.match(await messageOf(probe(png, "bomb.png")), /^bomb\.png: has frames of \d+x\d+, expected 1 to 67108864/);
  }));

Deno.test("names that look like options, addresses or several lines are names of clips", () =>
  withFolder(async (folder) => {
    const names = ["-i.mp4", "-y -f null.mp4", "a\nb.mp4", "concat:x|y.mp4"];
    for (const [i, name] of names.entries()) await makeClip(join(folder, name), "64x48", 8, 9 + i);
    const options = { frames: 9, fps: 8, size: { width: 64, height: 48 }, tokens: 226, prompt: "p", sheets: true };
    const { problems, statistics } = await checkDataset(folder, options);
    assert.deepEqual(problems, []);
    assert.deepEqual(statistics.clips.map(({ name }) => name).sort(), [...names].sort());
    assert.ok(statistics.clips.every(({ sheet }) => sheet!.length > 0));
    const { items } = await readDataset(folder, { prompt: "p" });
    const to = join(folder, "lists");
    const refusal = await writeLists(items, to).then(
      () => assert.fail("a line break"),
      (error: Error) => error.message,
    );
    assert.match(refusal, /1 problem\n[^]*videos\.txt cannot hold "\.\.\/a\\nb\.mp4"/);
  }));

Deno.test("lists may name no address, and are neither pipes nor endless", () =>
  withFolder(async (folder) => {
    const addresses = ["http://example.com/a.mp4", "file:///etc/passwd", "rtsp://x/y", "s3://bucket/a.mp4"];
    await Deno.writeTextFile(join(folder, "videos.txt"), addresses.join("\n"));
    await Deno.writeTextFile(join(folder, "prompts.txt"), addresses.map(() => "p").join("\n"));
    const refusal = await readDataset(folder).then(() => assert.fail("addresses"), (error: Error) => error.message);
    assert.equal(refusal.match(/is an address; download it and name the file/g)?.length, addresses.length);

    const problems: string[] = [];
    await new Deno.Command("mkfifo", { args: [join(folder, "pipe.txt")] }).output();
    await readText(join(folder, "pipe.txt"), "pipe.txt", problems);
    const endless = await Deno.open(join(folder, "endless.txt"), { write: true, create: true });
    await endless.truncate(2 ** 40);
    endless.close();
    await readText(join(folder, "endless.txt"), "endless.txt", problems);
    await readText(folder, "folder", problems);
    assert.deepEqual(problems, [
      "pipe.txt: is not a regular file, expected a file",
      `endless.txt: has ${2 ** 40} bytes, more than a list or table of clips can have (${2 ** 30})`,
      "folder: is a folder, expected a file",
    ]);
  }));
