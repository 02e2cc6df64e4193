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
constant uint _662 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _665 = (THREADS * TOKENS);
constant uint _666 = (_665 * 2u);
constant uint _691 = (64u * TOKENS);
constant uint _727 = (64u * TOKENS);

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

constant bool _787 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _929 = (TOKENS == 1u);
constant uint _1002 = (TOKENS * 2u);
constant bool _1034 = (TOKENS >= 4u);
constant bool _1036 = (_1034 && true);
constant int _1038 = _1036 ? 2 : 4;
constant uint _1039 = (uint(_1038) + 0u);
constant bool _1095 = (TOKENS >= 4u);
constant bool _1096 = (_1095 && true);
constant int _1097 = _1096 ? 2 : 4;
constant uint _1098 = (uint(_1097) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1343 = (TOKENS >= 4u);
constant bool _1344 = (_1343 && true);
constant int _1345 = _1344 ? 2 : 4;
constant uint _1346 = (uint(_1345) + 0u);
constant uint _1347 = (_1346 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1417 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1423 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1423, 1u, 1u);

kernel void expert_up_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _216 [[buffer(1)]], const device X& _1162 [[buffer(2)]], device Y& _1399 [[buffer(3)]], const device Scores& _824 [[buffer(4)]], const device Step& _795 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_666];
    threadgroup float chunk_sums[_727];
    do
    {
        uint _785 = p.first_expert + gl_WorkGroupID.y;
        uint _2068;
        if (_787)
        {
            _2068 = 1u;
        }
        else
        {
            _2068 = _795.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _2069 = 0u; _2069 < _2068; _2069 += TOKENS)
        {
            for (uint _2178 = 0u; _2178 < TOKENS; _2178++)
            {
                uint _827 = _2069 + _2178;
                if ((_827 < _2068) && (_824.scores[(_827 * p.score_stride) + _785] > 0.0))
                {
                    uint _849 = _827 / 32u;
                    mask[_849] |= (1u << (_827 % 32u));
                }
            }
        }
        uint _877 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _884 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _893 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_893 == 0u)
        {
            break;
        }
        uint _901 = gl_LocalInvocationID.x % 8u;
        uint _1465 = ((p.cols + 7u) / 8u) * 4u;
        uint _1443 = _877 + _1465;
        uint _1445 = _901 / 2u;
        uint _2070;
        if ((_901 & 1u) == 0u)
        {
            _2070 = ((device uint*)&_216.weights[_1443])[_1445] & 65535u;
        }
        else
        {
            _2070 = ((device uint*)&_216.weights[_1443])[_1445] >> uint(16);
        }
        uint _1474 = _2070 & 32767u;
        uint _1476 = _1474 << uint(13);
        float _1491 = (_1474 < 1024u) ? (as_type<float>(947912704u | _1476) - 6.103515625e-05) : as_type<float>(_1476 + ((_1474 < 31744u) ? 939524096u : 1879048192u));
        float _2071;
        if ((_2070 & 32768u) != 0u)
        {
            _2071 = -_1491;
        }
        else
        {
            _2071 = _1491;
        }
        uint _1416;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        for (uint _2072 = _893; _2072 != 0u; _2072 = _1416)
        {
            uint _920 = min(_2072, TOKENS);
            uint _2174;
            for (uint _2075 = 0u, _2175 = 0u; _2075 < TOKENS; _2175 = _2174, _2075++)
            {
                if (_929)
                {
                    mask.x = 0u;
                    _2174 = _2175;
                }
                else
                {
                    uint _2176;
                    if (mask.x != 0u)
                    {
                        uint _940 = mask.x;
                        uint _943 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _2176 = uint(int(popcount((~_940) & (_943 - 1u))));
                    }
                    else
                    {
                        uint _2177;
                        if (mask.y != 0u)
                        {
                            uint _963 = mask.y;
                            uint _966 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _2177 = uint(32 + int(popcount((~_963) & (_966 - 1u))));
                        }
                        else
                        {
                            _2177 = _2175;
                        }
                        _2176 = _2177;
                    }
                    _2174 = _2176;
                }
                token[_2075] = _2174;
                x_at[_2075] = _2174 * p.x_stride;
            }
            for (uint _2076 = 0u; _2076 < _1002; )
            {
                acc[_2076] = 0.0;
                _2076++;
                continue;
            }
            uint _2077;
            _2077 = gl_LocalInvocationID.x;
            bool _1024;
            for (;;)
            {
                _1024 = _2077 < _1465;
                if (_1024)
                {
                    bool _1040 = 0u < _1039;
                    bool _1049;
                    if (_1040)
                    {
                        _1049 = _1024;
                    }
                    else
                    {
                        _1049 = _1040;
                    }
                    if (_1049)
                    {
                        uint4 _2057[1] = { _216.weights[_877 + _2077] };
                        spvArrayCopyFromStackToStack1(raw[0u], _2057);
                    }
                    bool _2273 = 1u < _1039;
                    bool _2279;
                    if (_2273)
                    {
                        _2279 = (_2077 + THREADS) < _1465;
                    }
                    else
                    {
                        _2279 = _2273;
                    }
                    if (_2279)
                    {
                        uint4 _2286[1] = { _216.weights[_877 + (_2077 + THREADS)] };
                        spvArrayCopyFromStackToStack1(raw[1u], _2286);
                    }
                    bool _2296 = 2u < _1039;
                    bool _2302;
                    if (_2296)
                    {
                        _2302 = (_2077 + (2u * THREADS)) < _1465;
                    }
                    else
                    {
                        _2302 = _2296;
                    }
                    if (_2302)
                    {
                        uint4 _2309[1] = { _216.weights[_877 + (_2077 + (2u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[2u], _2309);
                    }
                    bool _2319 = 3u < _1039;
                    bool _2325;
                    if (_2319)
                    {
                        _2325 = (_2077 + (3u * THREADS)) < _1465;
                    }
                    else
                    {
                        _2325 = _2319;
                    }
                    if (_2325)
                    {
                        uint4 _2332[1] = { _216.weights[_877 + (_2077 + (3u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[3u], _2332);
                    }
                    for (uint _2104 = 0u; _2104 < 4u; _2104++)
                    {
                        uint _1093 = _2077 + (_2104 * THREADS);
                        if ((_2104 >= _1098) || (_1093 >= _1465))
                        {
                            continue;
                        }
                        uint _1533 = raw[_2104][0].x ^ 2155905152u;
                        half2 _1540 = as_type<half2>((_1533 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _1550 = as_type<half2>(((_1533 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2344 = raw[_2104][0].y ^ 2155905152u;
                        half2 _2349 = as_type<half2>((_2344 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2357 = as_type<half2>(((_2344 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2368 = raw[_2104][0].z ^ 2155905152u;
                        half2 _2373 = as_type<half2>((_2368 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2381 = as_type<half2>(((_2368 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2392 = raw[_2104][0].w ^ 2155905152u;
                        half2 _2397 = as_type<half2>((_2392 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2405 = as_type<half2>(((_2392 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2113;
                        _2113 = 0u;
                        uint _2233;
                        for (uint _2108 = 0u; _2108 < TOKENS; _2113 = _2233, _2108 += 4u)
                        {
                            if ((_2108 != 0u) && (_2108 >= _2072))
                            {
                                _2233 = _2113;
                                continue;
                            }
                            uint _2148;
                            _2148 = _2113;
                            uint _2260;
                            for (uint _2131 = _2108; _2131 < (_2108 + 4u); _2148 = _2260, _2131++)
                            {
                                if (_2131 >= TOKENS)
                                {
                                    _2260 = _2148;
                                    continue;
                                }
                                uint _1560 = (_1093 >> uint(2)) * 2u;
                                uint _1171 = x_at[_2131] + _1560;
                                uint _2419 = x_at[_2131] + (_1560 + 1u);
                                half2 _1586 = half2(_1162.x[_1171].xz);
                                half2 _1595 = half2(_1162.x[_1171].yw);
                                half2 _2434 = half2(_1162.x[_2419].xz);
                                half2 _2441 = half2(_1162.x[_2419].yw);
                                half2 _2466 = max(max(max(abs(_1586), abs(_1595)), abs(_2434)), abs(_2441));
                                half _1623 = max(_2466.x, _2466.y);
                                bool _1628 = (_1623 >= half(0.03125)) && (_1623 <= half(64.0));
                                half2 _2498 = fma(_2357, _2441, fma(_2349, _2434, fma(_1550, _1595, spvFMul(_1540, _1586))));
                                half2 _2552 = fma(_2405, _2441, fma(_2397, _2434, fma(_2381, _1595, _2373 * _1586)));
                                uint _2142;
                                if (_1628)
                                {
                                    _2142 = 0u;
                                }
                                else
                                {
                                    _2142 = 1u << _2131;
                                }
                                uint _1207 = _2131 * 2u;
                                float _2152;
                                if (_1628)
                                {
                                    _2152 = spvFAdd(acc[_1207], spvFAdd(float(_2498.x), float(_2498.y)));
                                }
                                else
                                {
                                    _2152 = acc[_1207];
                                }
                                acc[_1207] = _2152;
                                uint _2570 = _1207 + 1u;
                                float _2585;
                                if (_1628)
                                {
                                    _2585 = acc[_2570] + (float(_2552.x) + float(_2552.y));
                                }
                                else
                                {
                                    _2585 = acc[_2570];
                                }
                                acc[_2570] = _2585;
                                _2260 = _2148 | _2142;
                            }
                            _2233 = _2148;
                        }
                        uint _1245 = _2113 & ((1u << _920) - 1u);
                        if (_1245 != 0u)
                        {
                            uint _1708 = raw[_2104][0].x ^ 2155905152u;
                            float _1731 = as_type<float>((_1708 & 255u) | 1258291200u) - 8388736.0;
                            float _1739 = as_type<float>(((_1708 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _1747 = as_type<float>(((_1708 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _1755 = as_type<float>((_1708 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2596 = raw[_2104][0].y ^ 2155905152u;
                            float _2600 = as_type<float>((_2596 & 255u) | 1258291200u) - 8388736.0;
                            float _2605 = as_type<float>(((_2596 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2610 = as_type<float>(((_2596 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2614 = as_type<float>((_2596 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2626 = raw[_2104][0].z ^ 2155905152u;
                            float _2630 = as_type<float>((_2626 & 255u) | 1258291200u) - 8388736.0;
                            float _2635 = as_type<float>(((_2626 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2640 = as_type<float>(((_2626 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2644 = as_type<float>((_2626 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2656 = raw[_2104][0].w ^ 2155905152u;
                            float _2660 = as_type<float>((_2656 & 255u) | 1258291200u) - 8388736.0;
                            float _2665 = as_type<float>(((_2656 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2670 = as_type<float>(((_2656 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2674 = as_type<float>((_2656 >> uint(24)) | 1258291200u) - 8388736.0;
                            for (uint _2117 = 0u; _2117 < TOKENS; _2117++)
                            {
                                uint _1268 = _1245 >> _2117;
                                if ((_1268 & 1u) == 0u)
                                {
                                    continue;
                                }
                                uint _1760 = (_1093 >> uint(2)) * 2u;
                                uint _1775 = uint(int(popcount((~_1268) & (_1268 - 1u))));
                                uint _1298 = (x_at[_2117] + _1760) + _1775;
                                uint _2696 = (x_at[_2117] + (_1760 + 1u)) + _1775;
                                uint _1322 = _2117 * 2u;
                                acc[_1322] = spvFAdd(acc[_1322], fma(_2614, _1162.x[_2696].w, fma(_2610, _1162.x[_2696].z, fma(_2605, _1162.x[_2696].y, fma(_2600, _1162.x[_2696].x, fma(_1755, _1162.x[_1298].w, fma(_1747, _1162.x[_1298].z, fma(_1739, _1162.x[_1298].y, spvFMul(_1731, _1162.x[_1298].x)))))))));
                                uint _2775 = _1322 + 1u;
                                acc[_2775] += fma(_2674, _1162.x[_2696].w, fma(_2670, _1162.x[_2696].z, fma(_2665, _1162.x[_2696].y, fma(_2660, _1162.x[_2696].x, fma(_2644, _1162.x[_1298].w, fma(_2640, _1162.x[_1298].z, fma(_2635, _1162.x[_1298].y, _2630 * _1162.x[_1298].x)))))));
                            }
                        }
                    }
                    _2077 += _1347;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _2078 = 0u; _2078 < _662; )
            {
                partial[(_2078 * THREADS) + gl_LocalInvocationID.x] = param[_2078];
                _2078++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _2079 = gl_LocalInvocationID.x; _2079 < _691; _2079 += THREADS)
            {
                uint _1918 = (((_2079 / 32u) * THREADS) + ((_2079 / 8u) % 4u)) + (4u * (_2079 % 8u));
                float _2102;
                _2102 = partial[_1918];
                for (uint _2100 = 32u; _2100 < THREADS; )
                {
                    _2102 = spvFAdd(_2102, partial[_1918 + _2100]);
                    _2100 += 32u;
                    continue;
                }
                chunk_sums[_2079] = _2102;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _2085;
            _2085 = 0u;
            uint _2182;
            for (uint _2080 = 0u; _2080 < TOKENS; _2085 = _2182, _2080++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _2080)
                {
                    _2182 = token[_2080];
                }
                else
                {
                    _2182 = _2085;
                }
            }
            bool _1376 = gl_LocalInvocationID.x < (8u * _920);
            bool _1383;
            if (_1376)
            {
                _1383 = _884 < p.rows;
            }
            else
            {
                _1383 = _1376;
            }
            if (_1383)
            {
                uint _1959 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_901 % 2u)) * 4u) + _1445) * 8u;
                float _1395 = spvFMul((((((spvFAdd(chunk_sums[_1959], chunk_sums[_1959 + 1u]) + chunk_sums[_1959 + 2u]) + chunk_sums[_1959 + 3u]) + chunk_sums[_1959 + 4u]) + chunk_sums[_1959 + 5u]) + chunk_sums[_1959 + 6u]) + chunk_sums[_1959 + 7u], _2071);
                float _1987 = -abs(_1395);
                float _2086;
                do
                {
                    if (_1987 < (-87.0))
                    {
                        _2086 = 0.0;
                        break;
                    }
                    float _2016 = floor(fma(_1987, 1.44269502162933349609375, 0.5));
                    float _2022 = fma(_2016, 0.00021219444170128554105758666992188, fma(_2016, -0.693359375, _1987));
                    _2086 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _2022, 0.00139819993637502193450927734375), _2022, 0.008333452045917510986328125), _2022, 0.0416657961905002593994140625), _2022, 0.1666666567325592041015625), _2022, 0.5), _2022), _2022, _2022), 1.0) * as_type<float>(uint(int(_2016) + 127) << uint(23));
                    break;
                } while(false);
                float _2087;
                if (_1395 < 0.0)
                {
                    _2087 = _1395 * _2086;
                }
                else
                {
                    _2087 = _1395;
                }
                _1399.y[(((_785 * 64u) + _2085) * p.y_stride) + _884] = _2087 / (1.0 + _2086);
            }
            _1416 = _2072 - _920;
            if (_1417 && (_1416 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

