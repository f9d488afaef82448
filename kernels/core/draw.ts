/** Random words inside kernels, as functions of a key. */

/**
 * Four random words of a key of four (pcg4d: Jarzynski and Olano, Journal of Computer Graphics Techniques 9(3), 2020).
 * The upper bits are the better ones.
 */
export const DRAW = `fn draw(key: vec4u) -> vec4u {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}`;
