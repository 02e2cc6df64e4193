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
constant uint _737 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _740 = (THREADS * TOKENS);
constant uint _741 = (_740 * 2u);
constant uint _766 = (64u * TOKENS);
constant uint _801 = (64u * TOKENS);

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

constant bool _860 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _1002 = (TOKENS == 1u);
constant uint _1075 = (TOKENS * 2u);
constant bool _1107 = (TOKENS >= 4u);
constant bool _1109 = (_1107 && true);
constant int _1110 = _1109 ? 2 : 4;
constant uint _1111 = (uint(_1110) + 0u);
constant bool _1167 = (TOKENS >= 4u);
constant bool _1168 = (_1167 && true);
constant int _1169 = _1168 ? 2 : 4;
constant uint _1170 = (uint(_1169) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1309 = (TOKENS >= 4u);
constant bool _1310 = (_1309 && true);
constant int _1311 = _1310 ? 2 : 4;
constant uint _1312 = (uint(_1311) + 0u);
constant uint _1313 = (_1312 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1383 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1389 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1389, 1u, 1u);

kernel void expert_up_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _220 [[buffer(1)]], const device X& _1241 [[buffer(2)]], device Y& _1365 [[buffer(3)]], const device Scores& _897 [[buffer(4)]], const device Step& _868 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_741];
    threadgroup float chunk_sums[_801];
    do
    {
        uint _858 = p.first_expert + gl_WorkGroupID.y;
        uint _2188;
        if (_860)
        {
            _2188 = 1u;
        }
        else
        {
            _2188 = _868.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _2189 = 0u; _2189 < _2188; _2189 += TOKENS)
        {
            for (uint _2285 = 0u; _2285 < TOKENS; _2285++)
            {
                uint _900 = _2189 + _2285;
                if ((_900 < _2188) && (_897.scores[(_900 * p.score_stride) + _858] > 0.0))
                {
                    uint _922 = _900 / 32u;
                    mask[_922] |= (1u << (_900 % 32u));
                }
            }
        }
        uint _950 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _957 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _966 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_966 == 0u)
        {
            break;
        }
        uint _1382;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        uint pair[4];
        for (uint _2190 = _966; _2190 != 0u; _2190 = _1382)
        {
            uint _993 = min(_2190, TOKENS);
            uint _2281;
            for (uint _2191 = 0u, _2282 = 0u; _2191 < TOKENS; _2282 = _2281, _2191++)
            {
                if (_1002)
                {
                    mask.x = 0u;
                    _2281 = _2282;
                }
                else
                {
                    uint _2283;
                    if (mask.x != 0u)
                    {
                        uint _1013 = mask.x;
                        uint _1016 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _2283 = uint(int(popcount((~_1013) & (_1016 - 1u))));
                    }
                    else
                    {
                        uint _2284;
                        if (mask.y != 0u)
                        {
                            uint _1036 = mask.y;
                            uint _1039 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _2284 = uint(32 + int(popcount((~_1036) & (_1039 - 1u))));
                        }
                        else
                        {
                            _2284 = _2282;
                        }
                        _2283 = _2284;
                    }
                    _2281 = _2283;
                }
                token[_2191] = _2281;
                x_at[_2191] = _2281 * p.x_stride;
            }
            for (uint _2192 = 0u; _2192 < _1075; )
            {
                acc[_2192] = 0.0;
                _2192++;
                continue;
            }
            uint _1407 = ((p.cols + 31u) / 32u) * 8u;
            uint _2193;
            _2193 = gl_LocalInvocationID.x;
            bool _1097;
            for (;;)
            {
                _1097 = _2193 < _1407;
                if (_1097)
                {
                    bool _1112 = 0u < _1111;
                    bool _1121;
                    if (_1112)
                    {
                        _1121 = _1097;
                    }
                    else
                    {
                        _1121 = _1112;
                    }
                    if (_1121)
                    {
                        uint4 _2175[1] = { _220.weights[_950 + _2193] };
                        spvArrayCopyFromStackToStack1(raw[0u], _2175);
                        pair[0u] = ((device uint*)&_220.weights[(_950 + _1407) + (_2193 >> uint(3))])[_2193 & 3u];
                    }
                    bool _2371 = 1u < _1111;
                    bool _2377;
                    if (_2371)
                    {
                        _2377 = (_2193 + THREADS) < _1407;
                    }
                    else
                    {
                        _2377 = _2371;
                    }
                    if (_2377)
                    {
                        uint _2380 = _2193 + THREADS;
                        uint4 _2390[1] = { _220.weights[_950 + _2380] };
                        spvArrayCopyFromStackToStack1(raw[1u], _2390);
                        pair[1u] = ((device uint*)&_220.weights[(_950 + _1407) + (_2380 >> uint(3))])[_2380 & 3u];
                    }
                    bool _2401 = 2u < _1111;
                    bool _2407;
                    if (_2401)
                    {
                        _2407 = (_2193 + (2u * THREADS)) < _1407;
                    }
                    else
                    {
                        _2407 = _2401;
                    }
                    if (_2407)
                    {
                        uint _2410 = _2193 + (2u * THREADS);
                        uint4 _2420[1] = { _220.weights[_950 + _2410] };
                        spvArrayCopyFromStackToStack1(raw[2u], _2420);
                        pair[2u] = ((device uint*)&_220.weights[(_950 + _1407) + (_2410 >> uint(3))])[_2410 & 3u];
                    }
                    bool _2431 = 3u < _1111;
                    bool _2437;
                    if (_2431)
                    {
                        _2437 = (_2193 + (3u * THREADS)) < _1407;
                    }
                    else
                    {
                        _2437 = _2431;
                    }
                    if (_2437)
                    {
                        uint _2440 = _2193 + (3u * THREADS);
                        uint4 _2450[1] = { _220.weights[_950 + _2440] };
                        spvArrayCopyFromStackToStack1(raw[3u], _2450);
                        pair[3u] = ((device uint*)&_220.weights[(_950 + _1407) + (_2440 >> uint(3))])[_2440 & 3u];
                    }
                    for (uint _2220 = 0u; _2220 < 4u; _2220++)
                    {
                        uint _1165 = _2193 + (_2220 * THREADS);
                        if ((_2220 >= _1170) || (_1165 >= _1407))
                        {
                            continue;
                        }
                        uint _1453 = raw[_2220][0].x >> 0u;
                        half2 _1465 = as_type<half2>((_1453 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _1479 = fma(as_type<half2>((_1453 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2466 = raw[_2220][0].x >> 8u;
                        half2 _2474 = as_type<half2>((_2466 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2484 = fma(as_type<half2>((_2466 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2503 = raw[_2220][0].y >> 0u;
                        half2 _2511 = as_type<half2>((_2503 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2521 = fma(as_type<half2>((_2503 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2534 = raw[_2220][0].y >> 8u;
                        half2 _2542 = as_type<half2>((_2534 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2552 = fma(as_type<half2>((_2534 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2577 = raw[_2220][0].z >> 0u;
                        half2 _2585 = as_type<half2>((_2577 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2595 = fma(as_type<half2>((_2577 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2608 = raw[_2220][0].z >> 8u;
                        half2 _2616 = as_type<half2>((_2608 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2626 = fma(as_type<half2>((_2608 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2646 = raw[_2220][0].w >> 0u;
                        half2 _2654 = as_type<half2>((_2646 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2664 = fma(as_type<half2>((_2646 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2677 = raw[_2220][0].w >> 8u;
                        half2 _2685 = as_type<half2>((_2677 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2695 = fma(as_type<half2>((_2677 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _1497 = pair[_2220] & 65535u;
                        uint _1512 = _1497 & 32767u;
                        uint _1514 = _1512 << uint(13);
                        float _1529 = (_1512 < 1024u) ? (as_type<float>(947912704u | _1514) - 6.103515625e-05) : as_type<float>(_1514 + ((_1512 < 31744u) ? 939524096u : 1879048192u));
                        float _2225;
                        if ((_1497 & 32768u) != 0u)
                        {
                            _2225 = -_1529;
                        }
                        else
                        {
                            _2225 = _1529;
                        }
                        uint _1501 = pair[_2220] >> uint(16);
                        uint _1548 = _1501 & 32767u;
                        uint _1550 = _1548 << uint(13);
                        float _1565 = (_1548 < 1024u) ? (as_type<float>(947912704u | _1550) - 6.103515625e-05) : as_type<float>(_1550 + ((_1548 < 31744u) ? 939524096u : 1879048192u));
                        float _2226;
                        if ((_1501 & 32768u) != 0u)
                        {
                            _2226 = -_1565;
                        }
                        else
                        {
                            _2226 = _1565;
                        }
                        for (uint _2227 = 0u; _2227 < TOKENS; _2227 += 4u)
                        {
                            if ((_2227 != 0u) && (_2227 >= _2190))
                            {
                                continue;
                            }
                            for (uint _2234 = _2227; _2234 < (_2227 + 4u); _2234++)
                            {
                                if (_2234 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1585 = ((_1165 >> uint(3)) * 8u) + (((_1165 >> uint(2)) & 1u) * 2u);
                                uint _1250 = x_at[_2234] + _1585;
                                uint _2723 = x_at[_2234] + (_1585 + 1u);
                                uint _2747 = x_at[_2234] + (_1585 + 4u);
                                uint _2771 = x_at[_2234] + (_1585 + 5u);
                                half2 _1621 = half2(_1241.x[_1250].xz);
                                half2 _1630 = half2(_1241.x[_1250].yw);
                                half2 _2786 = half2(_1241.x[_2723].xz);
                                half2 _2793 = half2(_1241.x[_2723].yw);
                                half2 _2806 = half2(_1241.x[_2747].xz);
                                half2 _2813 = half2(_1241.x[_2747].yw);
                                half2 _2826 = half2(_1241.x[_2771].xz);
                                half2 _2833 = half2(_1241.x[_2771].yw);
                                half2 _2906 = max(max(max(max(max(max(max(abs(_1621), abs(_1630)), abs(_2786)), abs(_2793)), abs(_2806)), abs(_2813)), abs(_2826)), abs(_2833));
                                half _1658 = max(_2906.x, _2906.y);
                                half2 _3002 = fma(_2552, _2833, fma(_2521, _2826, fma(_2484, _2813, fma(_1479, _2806, fma(_2542, _2793, fma(_2511, _2786, fma(_2474, _1630, spvFMul(_1465, _1621))))))));
                                half2 _3112 = fma(_2695, _2833, fma(_2664, _2826, fma(_2626, _2813, fma(_2595, _2806, fma(_2685, _2793, fma(_2654, _2786, fma(_2616, _1630, _2585 * _1621)))))));
                                float _3905;
                                float _3906;
                                if ((_2234 < _2190) && (!((_1658 >= half(0.03125)) && (_1658 <= half(512.0)))))
                                {
                                    uint _1763 = raw[_2220][0].x >> uint(4);
                                    uint _3163 = raw[_2220][0].y >> uint(4);
                                    uint _3230 = raw[_2220][0].z >> uint(4);
                                    uint _3292 = raw[_2220][0].w >> uint(4);
                                    float _3331 = fma(as_type<float>((_1763 & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].x, fma(as_type<float>(((raw[_2220][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].w, fma(as_type<float>(((raw[_2220][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].z, fma(as_type<float>(((raw[_2220][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].y, fma(as_type<float>((raw[_2220][0].y & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].x, fma(as_type<float>(((raw[_2220][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].w, fma(as_type<float>(((raw[_2220][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].z, fma(as_type<float>(((raw[_2220][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].y, spvFMul(as_type<float>((raw[_2220][0].x & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].x)))))))));
                                    float _3464 = fma(as_type<float>((_3230 & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].x, fma(as_type<float>(((raw[_2220][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].w, fma(as_type<float>(((raw[_2220][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].z, fma(as_type<float>(((raw[_2220][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].y, fma(as_type<float>((raw[_2220][0].w & 15u) | 1258291200u) - 8388616.0, _1241.x[_2723].x, fma(as_type<float>(((raw[_2220][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].w, fma(as_type<float>(((raw[_2220][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].z, fma(as_type<float>(((raw[_2220][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_1250].y, (as_type<float>((raw[_2220][0].z & 15u) | 1258291200u) - 8388616.0) * _1241.x[_1250].x))))))));
                                    _3906 = fma(as_type<float>(((_3163 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].w, fma(as_type<float>(((_3163 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].z, fma(as_type<float>(((_3163 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].y, fma(as_type<float>((_3163 & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].x, fma(as_type<float>(((_1763 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].w, fma(as_type<float>(((_1763 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].z, fma(as_type<float>(((_1763 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].y, _3331)))))));
                                    _3905 = fma(as_type<float>(((_3292 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].w, fma(as_type<float>(((_3292 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].z, fma(as_type<float>(((_3292 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].y, fma(as_type<float>((_3292 & 15u) | 1258291200u) - 8388616.0, _1241.x[_2771].x, fma(as_type<float>(((_3230 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].w, fma(as_type<float>(((_3230 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].z, fma(as_type<float>(((_3230 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1241.x[_2747].y, _3464)))))));
                                }
                                else
                                {
                                    _3906 = spvFAdd(float(_3002.x), float(_3002.y));
                                    _3905 = float(_3112.x) + float(_3112.y);
                                }
                                uint _1289 = _2234 * 2u;
                                acc[_1289] = fma(_2225, _3906, acc[_1289]);
                                uint _3536 = _1289 + 1u;
                                acc[_3536] = fma(_2226, _3905, acc[_3536]);
                            }
                        }
                    }
                    _2193 += _1313;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _2194 = 0u; _2194 < _737; )
            {
                partial[(_2194 * THREADS) + gl_LocalInvocationID.x] = param[_2194];
                _2194++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _2195 = gl_LocalInvocationID.x; _2195 < _766; _2195 += THREADS)
            {
                uint _2032 = (((_2195 / 32u) * THREADS) + ((_2195 / 8u) % 4u)) + (4u * (_2195 % 8u));
                float _2218;
                _2218 = partial[_2032];
                for (uint _2216 = 32u; _2216 < THREADS; )
                {
                    _2218 = spvFAdd(_2218, partial[_2032 + _2216]);
                    _2216 += 32u;
                    continue;
                }
                chunk_sums[_2195] = _2218;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _2201;
            _2201 = 0u;
            uint _2289;
            for (uint _2196 = 0u; _2196 < TOKENS; _2201 = _2289, _2196++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _2196)
                {
                    _2289 = token[_2196];
                }
                else
                {
                    _2289 = _2201;
                }
            }
            bool _1342 = gl_LocalInvocationID.x < (8u * _993);
            bool _1349;
            if (_1342)
            {
                _1349 = _957 < p.rows;
            }
            else
            {
                _1349 = _1342;
            }
            if (_1349)
            {
                uint _1356 = gl_LocalInvocationID.x % 8u;
                uint _2073 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1356 % 2u)) * 4u) + (_1356 / 2u)) * 8u;
                float _1361 = spvFMul((((((spvFAdd(chunk_sums[_2073], chunk_sums[_2073 + 1u]) + chunk_sums[_2073 + 2u]) + chunk_sums[_2073 + 3u]) + chunk_sums[_2073 + 4u]) + chunk_sums[_2073 + 5u]) + chunk_sums[_2073 + 6u]) + chunk_sums[_2073 + 7u], 1.0);
                float _2101 = -abs(_1361);
                float _2202;
                do
                {
                    if (_2101 < (-87.0))
                    {
                        _2202 = 0.0;
                        break;
                    }
                    float _2130 = floor(fma(_2101, 1.44269502162933349609375, 0.5));
                    float _2136 = fma(_2130, 0.00021219444170128554105758666992188, fma(_2130, -0.693359375, _2101));
                    _2202 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _2136, 0.00139819993637502193450927734375), _2136, 0.008333452045917510986328125), _2136, 0.0416657961905002593994140625), _2136, 0.1666666567325592041015625), _2136, 0.5), _2136), _2136, _2136), 1.0) * as_type<float>(uint(int(_2130) + 127) << uint(23));
                    break;
                } while(false);
                float _2203;
                if (_1361 < 0.0)
                {
                    _2203 = _1361 * _2202;
                }
                else
                {
                    _2203 = _1361;
                }
                _1365.y[(((_858 * 64u) + _2201) * p.y_stride) + _957] = _2203 / (1.0 + _2202);
            }
            _1382 = _2190 - _993;
            if (_1383 && (_1382 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

