// GELU by table lookup: sixteen polynomials, whose coefficients of one power fill the lanes of a register.
namespace nd::cpu::ND_ISA {
namespace {

/// Coefficients of |x|·Φ(−|x|) on sixteen pieces of [0, 5.5], [power][piece]. They are our own minimax fits
/// in t, the distance from the middle of the piece (for the first piece, from its start) in widths of a
/// piece.
alignas(64) constexpr float kGeluPieces[6][16] = {
    {0.0f, 0.128275126f, 0.169587508f, 0.152741596f, 0.110446505f, 0.0673225746f, 0.0352987573f,
     0.0160783883f, 0.00639645895f, 0.00222950522f, 0.000682156882f, 0.000183443743f, 4.33931054e-05f,
     9.03403088e-06f, 1.65598613e-06f, 2.67343182e-07f},
    {0.17753388f, 0.0810518488f, 0.00662073679f, -0.0346451886f, -0.0457670204f, -0.0385460779f,
     -0.0253152698f, -0.0137423864f, -0.00632127514f, -0.00249564392f, -0.000851998979f, -0.000252710423f,
     -6.53297029e-05f, -1.47526289e-05f, -2.91478204e-06f, -5.04489947e-07f},
    {-0.0502954051f, -0.0442460589f, -0.0292311031f, -0.012340093f, 0.000157094197f, 0.00599060534f,
     0.00660019601f, 0.00478624599f, 0.00270096399f, 0.00125159766f, 0.000488044461f, 0.000162292796f,
     4.64005316e-05f, 1.14673667e-05f, 2.45894466e-06f, 4.58735457e-07f},
    {-4.28129988e-06f, 0.00384381413f, 0.00574184768f, 0.00515122153f, 0.00305728381f, 0.000927013869f,
     -0.000353060168f, -0.000733897148f, -0.000608794217f, -0.000358095276f, -0.000166433121f,
     -6.37066041e-05f, -2.05042652e-05f, -5.61648494e-06f, -1.3194973e-06f, -2.67289039e-07f},
    {0.00107340328f, 0.000772682775f, 0.000149912274f, -0.000392914633f, -0.000578891602f, -0.000442874938f,
     -0.000196841487f, -1.44756641e-05f, 5.81163622e-05f, 5.86688839e-05f, 3.61699276e-05f, 1.68329407e-05f,
     6.30956993e-06f, 1.96196606e-06f, 5.1443476e-07f, 1.14902996e-07f},
    {-2.9642857e-05f, -0.000103025079f, -0.000130532775f, -7.68532482e-05f, 7.21391075e-07f, 4.58365139e-05f,
     4.65400044e-05f, 2.50908852e-05f, 5.47026411e-06f, -3.52102165e-06f, -4.63388142e-06f, -2.96155804e-06f,
     -1.36007816e-06f, -4.92321192e-07f, -1.45983535e-07f, -3.61895829e-08f},
};
constexpr float kGeluPiecesPerUnit = 2.8163636f;

/// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|) with an absolute error of 8e-8·max(1, |x|), in half the multiplications
/// that one polynomial for all x takes. A NaN selects an arbitrary piece and stays NaN.
inline Vec gelu(Vec x) {
  // The last bits of the sum are the nearest integer; the lookup reads the lowest four.
  const Vec magic = set1(0x1p23f), a = min(set1(5.5f), abs(x));
  const Vec shifted = fma(a, set1(kGeluPiecesPerUnit), magic);
  const __m512i piece = _mm512_castps_si512(shifted);
  const Vec t = fma(a, set1(kGeluPiecesPerUnit), sub(magic, shifted));
  Vec p = _mm512_maskz_permutexvar_ps(0xffff, piece, load(kGeluPieces[5]));
#pragma GCC unroll 8
  for (int power = 4; power >= 0; --power)
    p = fma(p, t, _mm512_maskz_permutexvar_ps(0xffff, piece, load(kGeluPieces[power])));
  return sub(max(zero(), x), p);
}
template <int N>
inline Vecs<N> gelu(const Vecs<N>& x) {
  return Vecs<N>::each([&](int i) { return gelu(x.v[i]); });
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
