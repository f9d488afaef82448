/** Characters that deceive a reader: prompts, names of files and words of other programs may hold anything. */

/** Control characters except line break and tab, and those that hide or reorder what stands beside them. */
export const INVISIBLE = /[^\P{Cc}\n\t]|[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
