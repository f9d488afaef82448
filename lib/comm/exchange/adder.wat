;; Element-wise sums of two ranges of one memory, written over the first and to a third, which may be either. Arguments are
;; bytes; the count is a multiple of 64.
(module
  (memory (import "shared" "memory") i64 1 262144)

  ;; float32: into[i] = also[i] = into[i] + from[i]. Four vectors a turn keep both load ports of current CPUs busy.
  (func (export "add_f32") (param $into i64) (param $from i64) (param $also i64) (param $bytes i64)
    (local $end i64) (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (if (i64.eqz (local.get $bytes)) (then (return)))
    (local.set $end (i64.add (local.get $into) (local.get $bytes)))
    (loop $next
      (local.set $a (f32x4.add (v128.load offset=0 (local.get $into)) (v128.load offset=0 (local.get $from))))
      (local.set $b (f32x4.add (v128.load offset=16 (local.get $into)) (v128.load offset=16 (local.get $from))))
      (local.set $c (f32x4.add (v128.load offset=32 (local.get $into)) (v128.load offset=32 (local.get $from))))
      (local.set $d (f32x4.add (v128.load offset=48 (local.get $into)) (v128.load offset=48 (local.get $from))))
      (v128.store offset=0 (local.get $into) (local.get $a))
      (v128.store offset=16 (local.get $into) (local.get $b))
      (v128.store offset=32 (local.get $into) (local.get $c))
      (v128.store offset=48 (local.get $into) (local.get $d))
      (v128.store offset=0 (local.get $also) (local.get $a))
      (v128.store offset=16 (local.get $also) (local.get $b))
      (v128.store offset=32 (local.get $also) (local.get $c))
      (v128.store offset=48 (local.get $also) (local.get $d))
      (local.set $from (i64.add (local.get $from) (i64.const 64)))
      (local.set $also (i64.add (local.get $also) (i64.const 64)))
      (local.set $into (i64.add (local.get $into) (i64.const 64)))
      (br_if $next (i64.lt_u (local.get $into) (local.get $end)))))

  ;; The bfloat16 patterns of four float32 values, one in each 32-bit lane: round to nearest, ties to even.
  ;; A NaN would carry into infinity or zero, so it is cut and made quiet instead.
  (func $round (param $sum v128) (result v128)
    (local $upper v128)
    (local.set $upper (i32x4.shr_u (local.get $sum) (i32.const 16)))
    (v128.bitselect
      (v128.or (local.get $upper) (v128.const i32x4 0x40 0x40 0x40 0x40))
      (i32x4.shr_u
        (i32x4.add
          (i32x4.add (local.get $sum) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
          (v128.and (local.get $upper) (v128.const i32x4 1 1 1 1)))
        (i32.const 16))
      (f32x4.ne (local.get $sum) (local.get $sum))))

  (func $sum_low (param $a v128) (param $b v128) (result v128)
    (f32x4.add
      (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $a)) (i32.const 16))
      (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $b)) (i32.const 16))))

  (func $sum_high (param $a v128) (param $b v128) (result v128)
    (f32x4.add
      (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $a)) (i32.const 16))
      (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $b)) (i32.const 16))))

  ;; bfloat16: into[i] = also[i] = round(into[i] + from[i]), the sum in float32.
  (func (export "add_bf16") (param $into i64) (param $from i64) (param $also i64) (param $bytes i64)
    (local $end i64) (local $a v128) (local $b v128)
    (if (i64.eqz (local.get $bytes)) (then (return)))
    (local.set $end (i64.add (local.get $into) (local.get $bytes)))
    (loop $next
      (local.set $a (v128.load (local.get $into)))
      (local.set $b (v128.load (local.get $from)))
      (local.set $a
        (i16x8.narrow_i32x4_u
          (call $round (call $sum_low (local.get $a) (local.get $b)))
          (call $round (call $sum_high (local.get $a) (local.get $b)))))
      (v128.store (local.get $into) (local.get $a))
      (v128.store (local.get $also) (local.get $a))
      (local.set $from (i64.add (local.get $from) (i64.const 16)))
      (local.set $also (i64.add (local.get $also) (i64.const 16)))
      (local.set $into (i64.add (local.get $into) (i64.const 16)))
      (br_if $next (i64.lt_u (local.get $into) (local.get $end)))))
)
