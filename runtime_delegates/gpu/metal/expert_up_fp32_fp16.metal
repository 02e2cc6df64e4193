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
constant uint _609 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _612 = (THREADS * TOKENS);
constant uint _613 = (_612 * 4u);
constant uint _638 = (64u * TOKENS);
constant uint _674 = (64u * TOKENS);

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

constant bool _733 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _877 = (TOKENS == 1u);
constant uint _950 = (TOKENS * 4u);
constant bool _982 = (TOKENS >= 4u);
constant bool _984 = (_982 && false);
constant int _985 = _984 ? 2 : 2;
constant uint _986 = (uint(_985) + 0u);
constant bool _1042 = (TOKENS >= 4u);
constant bool _1043 = (_1042 && false);
constant int _1044 = _1043 ? 2 : 2;
constant uint _1045 = (uint(_1044) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1290 = (TOKENS >= 4u);
constant bool _1291 = (_1290 && false);
constant int _1292 = _1291 ? 2 : 2;
constant uint _1293 = (uint(_1292) + 0u);
constant uint _1294 = (_1293 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1365 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1371 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1371, 1u, 1u);

kernel void expert_up_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _235 [[buffer(1)]], const device X& _1109 [[buffer(2)]], device Y& _1347 [[buffer(3)]], const device Scores& _771 [[buffer(4)]], const device Step& _741 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_613];
    threadgroup float chunk_sums[_674];
    do
    {
        uint _731 = p.first_expert + gl_WorkGroupID.y;
        uint _2009;
        if (_733)
        {
            _2009 = 1u;
        }
        else
        {
            _2009 = _741.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _2010 = 0u; _2010 < _2009; _2010 += TOKENS)
        {
            for (uint _2127 = 0u; _2127 < TOKENS; _2127++)
            {
                uint _774 = _2010 + _2127;
                if ((_774 < _2009) && (_771.scores[(_774 * p.score_stride) + _731] > 0.0))
                {
                    uint _797 = _774 / 32u;
                    mask[_797] |= (1u << (_774 % 32u));
                }
            }
        }
        uint _825 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _832 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _841 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_841 == 0u)
        {
            break;
        }
        uint _1364;
        uint token[8];
        uint x_at[8];
        float acc[32];
        uint4 raw[2][4];
        float param_1[4];
        for (uint _2011 = _841; _2011 != 0u; _2011 = _1364)
        {
            uint _868 = min(_2011, TOKENS);
            uint _2123;
            for (uint _2012 = 0u, _2124 = 0u; _2012 < TOKENS; _2124 = _2123, _2012++)
            {
                if (_877)
                {
                    mask.x = 0u;
                    _2123 = _2124;
                }
                else
                {
                    uint _2125;
                    if (mask.x != 0u)
                    {
                        uint _888 = mask.x;
                        uint _891 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _2125 = uint(int(popcount((~_888) & (_891 - 1u))));
                    }
                    else
                    {
                        uint _2126;
                        if (mask.y != 0u)
                        {
                            uint _911 = mask.y;
                            uint _914 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _2126 = uint(32 + int(popcount((~_911) & (_914 - 1u))));
                        }
                        else
                        {
                            _2126 = _2124;
                        }
                        _2125 = _2126;
                    }
                    _2123 = _2125;
                }
                token[_2012] = _2123;
                x_at[_2012] = _2123 * p.x_stride;
            }
            for (uint _2013 = 0u; _2013 < _950; )
            {
                acc[_2013] = 0.0;
                _2013++;
                continue;
            }
            uint _1389 = ((p.cols + 3u) / 4u) * 2u;
            for (uint _2014 = gl_LocalInvocationID.x; _2014 < _1389; _2014 += _1294)
            {
                for (uint _2040 = 0u; _2040 < 2u; _2040++)
                {
                    bool _987 = _2040 < _986;
                    bool _996;
                    if (_987)
                    {
                        _996 = (_2014 + (_2040 * THREADS)) < _1389;
                    }
                    else
                    {
                        _996 = _987;
                    }
                    if (_996)
                    {
                        uint _1002 = _2014 + (_2040 * THREADS);
                        uint _1396 = _1002 >> uint(1);
                        uint _1397 = _1396 * 4u;
                        uint _1404 = (_825 + (_1396 * 8u)) + (_1002 & 1u);
                        uint4 _2118;
                        if (_1397 < p.cols)
                        {
                            _2118 = _235.weights[_1404];
                        }
                        else
                        {
                            _2118 = uint4(0u);
                        }
                        uint4 _2241;
                        if ((_1397 + 1u) < p.cols)
                        {
                            _2241 = _235.weights[_1404 + 2u];
                        }
                        else
                        {
                            _2241 = uint4(0u);
                        }
                        uint4 _2259;
                        if ((_1397 + 2u) < p.cols)
                        {
                            _2259 = _235.weights[_1404 + 4u];
                        }
                        else
                        {
                            _2259 = uint4(0u);
                        }
                        uint4 _2277;
                        if ((_1397 + 3u) < p.cols)
                        {
                            _2277 = _235.weights[_1404 + 6u];
                        }
                        else
                        {
                            _2277 = uint4(0u);
                        }
                        uint4 _2876[4] = { _2118, _2241, _2259, _2277 };
                        spvArrayCopyFromStackToStack1(raw[_2040], _2876);
                    }
                }
                for (uint _2041 = 0u; _2041 < 2u; _2041++)
                {
                    uint _1040 = _2014 + (_2041 * THREADS);
                    if ((_2041 >= _1045) || (_1040 >= _1389))
                    {
                        continue;
                    }
                    float4 _1448 = float4(as_type<float>(raw[_2041][0].x), as_type<float>(raw[_2041][1].x), as_type<float>(raw[_2041][2].x), as_type<float>(raw[_2041][3].x)) * 64.0;
                    half2 _1453 = half2(_1448.xz);
                    half2 _1460 = half2(_1448.yw);
                    float4 _2351 = float4(as_type<float>(raw[_2041][0].y), as_type<float>(raw[_2041][1].y), as_type<float>(raw[_2041][2].y), as_type<float>(raw[_2041][3].y)) * 64.0;
                    half2 _2354 = half2(_2351.xz);
                    half2 _2359 = half2(_2351.yw);
                    float4 _2370 = float4(as_type<float>(raw[_2041][0].z), as_type<float>(raw[_2041][1].z), as_type<float>(raw[_2041][2].z), as_type<float>(raw[_2041][3].z)) * 64.0;
                    half2 _2373 = half2(_2370.xz);
                    half2 _2378 = half2(_2370.yw);
                    float4 _2389 = float4(as_type<float>(raw[_2041][0].w), as_type<float>(raw[_2041][1].w), as_type<float>(raw[_2041][2].w), as_type<float>(raw[_2041][3].w)) * 64.0;
                    half2 _2392 = half2(_2389.xz);
                    half2 _2397 = half2(_2389.yw);
                    uint _2052;
                    _2052 = 0u;
                    uint _2189;
                    for (uint _2046 = 0u; _2046 < TOKENS; _2052 = _2189, _2046 += 4u)
                    {
                        if ((_2046 != 0u) && (_2046 >= _2011))
                        {
                            _2189 = _2052;
                            continue;
                        }
                        uint _2093;
                        _2093 = _2052;
                        uint _2219;
                        for (uint _2071 = _2046; _2071 < (_2046 + 4u); _2093 = _2219, _2071++)
                        {
                            if (_2071 >= TOKENS)
                            {
                                _2219 = _2093;
                                continue;
                            }
                            uint _1118 = x_at[_2071] + (_1040 >> uint(1));
                            half2 _1526 = half2(_1109.x[_1118].xz);
                            half2 _1535 = half2(_1109.x[_1118].yw);
                            half2 _1554 = max(abs(_1526), abs(_1535));
                            half _1563 = max(_1554.x, _1554.y);
                            half2 _1585 = max(abs(_1453), abs(_1460));
                            half _1590 = max(_1585.x, _1585.y);
                            half2 _2416 = max(abs(_2354), abs(_2359));
                            half _2419 = max(_2416.x, _2416.y);
                            half2 _2441 = max(abs(_2373), abs(_2378));
                            half _2444 = max(_2441.x, _2441.y);
                            half2 _2466 = max(abs(_2392), abs(_2397));
                            half _2469 = max(_2466.x, _2466.y);
                            bool _2473 = (((((((((_1563 >= half(0.03125)) && (_1563 <= half(64.0))) && (_1590 >= half(0.03125))) && (_1590 <= half(256.0))) && (_2419 >= half(0.03125))) && (_2419 <= half(256.0))) && (_2444 >= half(0.03125))) && (_2444 <= half(256.0))) && (_2469 >= half(0.03125))) && (_2469 <= half(256.0));
                            half2 _1631 = fma(_1460, _1535, spvFMul(_1453, _1526));
                            half2 _2499 = fma(_2359, _1535, _2354 * _1526);
                            half2 _2535 = fma(_2378, _1535, _2373 * _1526);
                            half2 _2571 = fma(_2397, _1535, _2392 * _1526);
                            uint _2086;
                            if (_2473)
                            {
                                _2086 = 0u;
                            }
                            else
                            {
                                _2086 = 1u << _2071;
                            }
                            uint _1154 = _2071 * 4u;
                            float _2097;
                            if (_2473)
                            {
                                _2097 = spvFAdd(acc[_1154], spvFMul(spvFAdd(float(_1631.x), float(_1631.y)), 0.015625));
                            }
                            else
                            {
                                _2097 = acc[_1154];
                            }
                            acc[_1154] = _2097;
                            uint _2590 = _1154 + 1u;
                            float _2605;
                            if (_2473)
                            {
                                _2605 = fma(float(_2499.x) + float(_2499.y), 0.015625, acc[_2590]);
                            }
                            else
                            {
                                _2605 = acc[_2590];
                            }
                            acc[_2590] = _2605;
                            uint _2615 = _1154 + 2u;
                            float _2630;
                            if (_2473)
                            {
                                _2630 = fma(float(_2535.x) + float(_2535.y), 0.015625, acc[_2615]);
                            }
                            else
                            {
                                _2630 = acc[_2615];
                            }
                            acc[_2615] = _2630;
                            uint _2640 = _1154 + 3u;
                            float _2655;
                            if (_2473)
                            {
                                _2655 = fma(float(_2571.x) + float(_2571.y), 0.015625, acc[_2640]);
                            }
                            else
                            {
                                _2655 = acc[_2640];
                            }
                            acc[_2640] = _2655;
                            _2219 = _2093 | _2086;
                        }
                        _2189 = _2093;
                    }
                    uint _1192 = _2052 & ((1u << _868) - 1u);
                    if (_1192 != 0u)
                    {
                        float4 _2940[4] = { float4(as_type<float>(raw[_2041][0].x), as_type<float>(raw[_2041][1].x), as_type<float>(raw[_2041][2].x), as_type<float>(raw[_2041][3].x)), float4(as_type<float>(raw[_2041][0].y), as_type<float>(raw[_2041][1].y), as_type<float>(raw[_2041][2].y), as_type<float>(raw[_2041][3].y)), float4(as_type<float>(raw[_2041][0].z), as_type<float>(raw[_2041][1].z), as_type<float>(raw[_2041][2].z), as_type<float>(raw[_2041][3].z)), float4(as_type<float>(raw[_2041][0].w), as_type<float>(raw[_2041][1].w), as_type<float>(raw[_2041][2].w), as_type<float>(raw[_2041][3].w)) };
                        for (uint _2057 = 0u; _2057 < TOKENS; _2057++)
                        {
                            uint _1215 = _1192 >> _2057;
                            if ((_1215 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1245 = (x_at[_2057] + (_1040 >> uint(1))) + uint(int(popcount((~_1215) & (_1215 - 1u))));
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _2940);
                            for (uint _2061 = 0u; _2061 < 4u; )
                            {
                                param_1[_2061] = fma(param[_2061].w, _1109.x[_1245].w, fma(param[_2061].z, _1109.x[_1245].z, fma(param[_2061].y, _1109.x[_1245].y, spvFMul(param[_2061].x, _1109.x[_1245].x))));
                                _2061++;
                                continue;
                            }
                            uint _1269 = _2057 * 4u;
                            acc[_1269] = spvFAdd(acc[_1269], param_1[0]);
                            uint _2728 = _1269 + 1u;
                            acc[_2728] += param_1[1];
                            uint _2745 = _1269 + 2u;
                            acc[_2745] += param_1[2];
                            uint _2762 = _1269 + 3u;
                            acc[_2762] += param_1[3];
                        }
                    }
                }
            }
            float param_2[32];
            spvArrayCopyFromStackToStack1(param_2, acc);
            for (uint _2015 = 0u; _2015 < _609; )
            {
                partial[(_2015 * THREADS) + gl_LocalInvocationID.x] = param_2[_2015];
                _2015++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _2016 = gl_LocalInvocationID.x; _2016 < _638; _2016 += THREADS)
            {
                uint _1842 = (((_2016 / 16u) * THREADS) + ((_2016 / 8u) % 2u)) + (2u * (_2016 % 8u));
                float _2039;
                _2039 = partial[_1842];
                for (uint _2037 = 16u; _2037 < THREADS; )
                {
                    _2039 = spvFAdd(_2039, partial[_1842 + _2037]);
                    _2037 += 16u;
                    continue;
                }
                chunk_sums[_2016] = _2039;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _2022;
            _2022 = 0u;
            uint _2131;
            for (uint _2017 = 0u; _2017 < TOKENS; _2022 = _2131, _2017++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _2017)
                {
                    _2131 = token[_2017];
                }
                else
                {
                    _2131 = _2022;
                }
            }
            bool _1323 = gl_LocalInvocationID.x < (8u * _868);
            bool _1331;
            if (_1323)
            {
                _1331 = _832 < p.rows;
            }
            else
            {
                _1331 = _1323;
            }
            if (_1331)
            {
                uint _1338 = gl_LocalInvocationID.x % 8u;
                uint _1883 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1338 % 4u)) * 2u) + (_1338 / 4u)) * 8u;
                float _1343 = spvFMul((((((spvFAdd(chunk_sums[_1883], chunk_sums[_1883 + 1u]) + chunk_sums[_1883 + 2u]) + chunk_sums[_1883 + 3u]) + chunk_sums[_1883 + 4u]) + chunk_sums[_1883 + 5u]) + chunk_sums[_1883 + 6u]) + chunk_sums[_1883 + 7u], 1.0);
                float _1911 = -abs(_1343);
                float _2023;
                do
                {
                    if (_1911 < (-87.0))
                    {
                        _2023 = 0.0;
                        break;
                    }
                    float _1940 = floor(fma(_1911, 1.44269502162933349609375, 0.5));
                    float _1946 = fma(_1940, 0.00021219444170128554105758666992188, fma(_1940, -0.693359375, _1911));
                    _2023 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1946, 0.00139819993637502193450927734375), _1946, 0.008333452045917510986328125), _1946, 0.0416657961905002593994140625), _1946, 0.1666666567325592041015625), _1946, 0.5), _1946), _1946, _1946), 1.0) * as_type<float>(uint(int(_1940) + 127) << uint(23));
                    break;
                } while(false);
                float _2024;
                if (_1343 < 0.0)
                {
                    _2024 = _1343 * _2023;
                }
                else
                {
                    _2024 = _1343;
                }
                _1347.y[(((_731 * 64u) + _2022) * p.y_stride) + _832] = _2024 / (1.0 + _2023);
            }
            _1364 = _2011 - _868;
            if (_1365 && (_1364 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

