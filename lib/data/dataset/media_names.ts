/** What a name promises about a file; its first bytes decide later, when it is opened. */

const VIDEO_NAME = /\.(mp4|m4v|mov|mkv|webm|avi|ts|mpg|mpeg|flv|gif)$/i;
const IMAGE_NAME = /\.(png|jpe?g|bmp|webp)$/i;

/** Whether a name is that of a clip. */
export function isVideoName(name: string): boolean {
  return VIDEO_NAME.test(name);
}

/** Whether a name is that of a picture. */
export function isImageName(name: string): boolean {
  return IMAGE_NAME.test(name);
}

/** Whether a name is that of a clip or picture. */
export function isMediaName(name: string): boolean {
  return isVideoName(name) || isImageName(name);
}
