// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _610 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _613 = (THREADS * TOKENS);
constant uint _614 = (_613 * 4u);
constant uint _639 = (64u * TOKENS);
constant uint _675 = (64u * TOKENS);

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint score_stride;
};

constant bool _734 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _878 = (TOKENS == 1u);
constant uint _951 = (TOKENS * 4u);
constant bool _983 = (TOKENS >= 4u);
constant bool _985 = (_983 && false);
constant int _986 = _985 ? 2 : 2;
constant uint _987 = (uint(_986) + 0u);
constant bool _1043 = (TOKENS >= 4u);
constant bool _1044 = (_1043 && false);
constant int _1045 = _1044 ? 2 : 2;
constant uint _1046 = (uint(_1045) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1174 = (TOKENS >= 4u);
constant bool _1175 = (_1174 && false);
constant int _1176 = _1175 ? 2 : 2;
constant uint _1177 = (uint(_1176) + 0u);
constant uint _1178 = (_1177 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1249 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1255 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1255, 1u, 1u);

kernel void expert_up_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _234 [[buffer(1)]], const device X& _1109 [[buffer(2)]], device Y& _1231 [[buffer(3)]], const device Scores& _772 [[buffer(4)]], const device Step& _742 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_614];
    threadgroup float chunk_sums[_675];
    do
    {
        uint _732 = p.first_expert + gl_WorkGroupID.y;
        uint _1893;
        if (_734)
        {
            _1893 = 1u;
        }
        else
        {
            _1893 = _742.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1894 = 0u; _1894 < _1893; _1894 += TOKENS)
        {
            for (uint _1988 = 0u; _1988 < TOKENS; _1988++)
            {
                uint _775 = _1894 + _1988;
                if ((_775 < _1893) && (_772.scores[(_775 * p.score_stride) + _732] > 0.0))
                {
                    uint _798 = _775 / 32u;
                    mask[_798] |= (1u << (_775 % 32u));
                }
            }
        }
        uint _826 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _833 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _842 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_842 == 0u)
        {
            break;
        }
        uint _1248;
        uint token[8];
        uint x_at[8];
        float acc[32];
        uint4 raw[2][4];
        float _1402[4];
        for (uint _1895 = _842; _1895 != 0u; _1895 = _1248)
        {
            uint _869 = min(_1895, TOKENS);
            uint _1984;
            for (uint _1896 = 0u, _1985 = 0u; _1896 < TOKENS; _1985 = _1984, _1896++)
            {
                if (_878)
                {
                    mask.x = 0u;
                    _1984 = _1985;
                }
                else
                {
                    uint _1986;
                    if (mask.x != 0u)
                    {
                        uint _889 = mask.x;
                        uint _892 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1986 = uint(int(popcount((~_889) & (_892 - 1u))));
                    }
                    else
                    {
                        uint _1987;
                        if (mask.y != 0u)
                        {
                            uint _912 = mask.y;
                            uint _915 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1987 = uint(32 + int(popcount((~_912) & (_915 - 1u))));
                        }
                        else
                        {
                            _1987 = _1985;
                        }
                        _1986 = _1987;
                    }
                    _1984 = _1986;
                }
                token[_1896] = _1984;
                x_at[_1896] = _1984 * p.x_stride;
            }
            for (uint _1897 = 0u; _1897 < _951; )
            {
                acc[_1897] = 0.0;
                _1897++;
                continue;
            }
            uint _1273 = ((p.cols + 3u) / 4u) * 2u;
            for (uint _1898 = gl_LocalInvocationID.x; _1898 < _1273; _1898 += _1178)
            {
                for (uint _1924 = 0u; _1924 < 2u; _1924++)
                {
                    bool _988 = _1924 < _987;
                    bool _997;
                    if (_988)
                    {
                        _997 = (_1898 + (_1924 * THREADS)) < _1273;
                    }
                    else
                    {
                        _997 = _988;
                    }
                    if (_997)
                    {
                        uint _1003 = _1898 + (_1924 * THREADS);
                        uint _1280 = _1003 >> uint(1);
                        uint _1281 = _1280 * 4u;
                        uint _1288 = (_826 + (_1280 * 8u)) + (_1003 & 1u);
                        uint4 _1979;
                        if (_1281 < p.cols)
                        {
                            _1979 = _234.weights[_1288];
                        }
                        else
                        {
                            _1979 = uint4(0u);
                        }
                        uint4 _2080;
                        if ((_1281 + 1u) < p.cols)
                        {
                            _2080 = _234.weights[_1288 + 2u];
                        }
                        else
                        {
                            _2080 = uint4(0u);
                        }
                        uint4 _2098;
                        if ((_1281 + 2u) < p.cols)
                        {
                            _2098 = _234.weights[_1288 + 4u];
                        }
                        else
                        {
                            _2098 = uint4(0u);
                        }
                        uint4 _2116;
                        if ((_1281 + 3u) < p.cols)
                        {
                            _2116 = _234.weights[_1288 + 6u];
                        }
                        else
                        {
                            _2116 = uint4(0u);
                        }
                        uint4 _2655[4] = { _1979, _2080, _2098, _2116 };
                        spvArrayCopyFromStackToStack1(raw[_1924], _2655);
                    }
                }
                for (uint _1925 = 0u; _1925 < 2u; _1925++)
                {
                    uint _1041 = _1898 + (_1925 * THREADS);
                    if ((_1925 >= _1046) || (_1041 >= _1273))
                    {
                        continue;
                    }
                    float4 _1332 = float4(as_type<float>(raw[_1925][0].x), as_type<float>(raw[_1925][1].x), as_type<float>(raw[_1925][2].x), as_type<float>(raw[_1925][3].x)) * 64.0;
                    half2 _1337 = half2(_1332.xz);
                    half2 _1344 = half2(_1332.yw);
                    float4 _2190 = float4(as_type<float>(raw[_1925][0].y), as_type<float>(raw[_1925][1].y), as_type<float>(raw[_1925][2].y), as_type<float>(raw[_1925][3].y)) * 64.0;
                    half2 _2193 = half2(_2190.xz);
                    half2 _2198 = half2(_2190.yw);
                    float4 _2209 = float4(as_type<float>(raw[_1925][0].z), as_type<float>(raw[_1925][1].z), as_type<float>(raw[_1925][2].z), as_type<float>(raw[_1925][3].z)) * 64.0;
                    half2 _2212 = half2(_2209.xz);
                    half2 _2217 = half2(_2209.yw);
                    float4 _2228 = float4(as_type<float>(raw[_1925][0].w), as_type<float>(raw[_1925][1].w), as_type<float>(raw[_1925][2].w), as_type<float>(raw[_1925][3].w)) * 64.0;
                    half2 _2231 = half2(_2228.xz);
                    half2 _2236 = half2(_2228.yw);
                    for (uint _1930 = 0u; _1930 < TOKENS; _1930 += 4u)
                    {
                        if ((_1930 != 0u) && (_1930 >= _1895))
                        {
                            continue;
                        }
                        for (uint _1936 = _1930; _1936 < (_1930 + 4u); _1936++)
                        {
                            if (_1936 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1118 = x_at[_1936] + (_1041 >> uint(1));
                            half2 _1415 = half2(_1109.x[_1118].xz);
                            half2 _1424 = half2(_1109.x[_1118].yw);
                            half2 _1443 = max(abs(_1415), abs(_1424));
                            half _1452 = max(_1443.x, _1443.y);
                            half2 _1474 = max(abs(_1337), abs(_1344));
                            half _1479 = max(_1474.x, _1474.y);
                            half2 _2255 = max(abs(_2193), abs(_2198));
                            half _2258 = max(_2255.x, _2255.y);
                            half2 _2280 = max(abs(_2212), abs(_2217));
                            half _2283 = max(_2280.x, _2280.y);
                            half2 _2305 = max(abs(_2231), abs(_2236));
                            half _2308 = max(_2305.x, _2305.y);
                            half2 _1520 = fma(_1344, _1424, spvFMul(_1337, _1415));
                            half2 _2338 = fma(_2198, _1424, _2193 * _1415);
                            half2 _2374 = fma(_2217, _1424, _2212 * _1415);
                            half2 _2410 = fma(_2236, _1424, _2231 * _1415);
                            float _2751;
                            float _2752;
                            float _2753;
                            float _2754;
                            if ((_1936 < _1895) && (!((((((((((_1452 >= half(0.03125)) && (_1452 <= half(64.0))) && (_1479 >= half(0.03125))) && (_1479 <= half(256.0))) && (_2258 >= half(0.03125))) && (_2258 <= half(256.0))) && (_2283 >= half(0.03125))) && (_2283 <= half(256.0))) && (_2308 >= half(0.03125))) && (_2308 <= half(256.0)))))
                            {
                                float4 _2623[4] = { float4(as_type<float>(raw[_1925][0].x), as_type<float>(raw[_1925][1].x), as_type<float>(raw[_1925][2].x), as_type<float>(raw[_1925][3].x)), float4(as_type<float>(raw[_1925][0].y), as_type<float>(raw[_1925][1].y), as_type<float>(raw[_1925][2].y), as_type<float>(raw[_1925][3].y)), float4(as_type<float>(raw[_1925][0].z), as_type<float>(raw[_1925][1].z), as_type<float>(raw[_1925][2].z), as_type<float>(raw[_1925][3].z)), float4(as_type<float>(raw[_1925][0].w), as_type<float>(raw[_1925][1].w), as_type<float>(raw[_1925][2].w), as_type<float>(raw[_1925][3].w)) };
                                float4 _1400[4];
                                spvArrayCopyFromStackToStack1(_1400, _2623);
                                for (uint _1955 = 0u; _1955 < 4u; )
                                {
                                    _1402[_1955] = fma(_1400[_1955].w, _1109.x[_1118].w, fma(_1400[_1955].z, _1109.x[_1118].z, fma(_1400[_1955].y, _1109.x[_1118].y, spvFMul(_1400[_1955].x, _1109.x[_1118].x))));
                                    _1955++;
                                    continue;
                                }
                                _2754 = _1402[0];
                                _2753 = _1402[1];
                                _2752 = _1402[2];
                                _2751 = _1402[3];
                            }
                            else
                            {
                                _2754 = spvFMul(spvFAdd(float(_1520.x), float(_1520.y)), 0.015625);
                                _2753 = (float(_2338.x) + float(_2338.y)) * 0.015625;
                                _2752 = (float(_2374.x) + float(_2374.y)) * 0.015625;
                                _2751 = (float(_2410.x) + float(_2410.y)) * 0.015625;
                            }
                            uint _1151 = _1936 * 4u;
                            acc[_1151] = spvFAdd(acc[_1151], _2754);
                            uint _2492 = _1151 + 1u;
                            acc[_2492] += _2753;
                            uint _2509 = _1151 + 2u;
                            acc[_2509] += _2752;
                            uint _2526 = _1151 + 3u;
                            acc[_2526] += _2751;
                        }
                    }
                }
            }
            float param[32];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1899 = 0u; _1899 < _610; )
            {
                partial[(_1899 * THREADS) + gl_LocalInvocationID.x] = param[_1899];
                _1899++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1900 = gl_LocalInvocationID.x; _1900 < _639; _1900 += THREADS)
            {
                uint _1726 = (((_1900 / 16u) * THREADS) + ((_1900 / 8u) % 2u)) + (2u * (_1900 % 8u));
                float _1923;
                _1923 = partial[_1726];
                for (uint _1921 = 16u; _1921 < THREADS; )
                {
                    _1923 = spvFAdd(_1923, partial[_1726 + _1921]);
                    _1921 += 16u;
                    continue;
                }
                chunk_sums[_1900] = _1923;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1906;
            _1906 = 0u;
            uint _1992;
            for (uint _1901 = 0u; _1901 < TOKENS; _1906 = _1992, _1901++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1901)
                {
                    _1992 = token[_1901];
                }
                else
                {
                    _1992 = _1906;
                }
            }
            bool _1207 = gl_LocalInvocationID.x < (8u * _869);
            bool _1215;
            if (_1207)
            {
                _1215 = _833 < p.rows;
            }
            else
            {
                _1215 = _1207;
            }
            if (_1215)
            {
                uint _1222 = gl_LocalInvocationID.x % 8u;
                uint _1767 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1222 % 4u)) * 2u) + (_1222 / 4u)) * 8u;
                float _1227 = spvFMul((((((spvFAdd(chunk_sums[_1767], chunk_sums[_1767 + 1u]) + chunk_sums[_1767 + 2u]) + chunk_sums[_1767 + 3u]) + chunk_sums[_1767 + 4u]) + chunk_sums[_1767 + 5u]) + chunk_sums[_1767 + 6u]) + chunk_sums[_1767 + 7u], 1.0);
                float _1795 = -abs(_1227);
                float _1907;
                do
                {
                    if (_1795 < (-87.0))
                    {
                        _1907 = 0.0;
                        break;
                    }
                    float _1824 = floor(fma(_1795, 1.44269502162933349609375, 0.5));
                    float _1830 = fma(_1824, 0.00021219444170128554105758666992188, fma(_1824, -0.693359375, _1795));
                    _1907 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1830, 0.00139819993637502193450927734375), _1830, 0.008333452045917510986328125), _1830, 0.0416657961905002593994140625), _1830, 0.1666666567325592041015625), _1830, 0.5), _1830), _1830, _1830), 1.0) * as_type<float>(uint(int(_1824) + 127) << uint(23));
                    break;
                } while(false);
                float _1908;
                if (_1227 < 0.0)
                {
                    _1908 = _1227 * _1907;
                }
                else
                {
                    _1908 = _1227;
                }
                _1231.y[(((_732 * 64u) + _1906) * p.y_stride) + _833] = _1908 / (1.0 + _1907);
            }
            _1248 = _1895 - _869;
            if (_1249 && (_1248 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

