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
constant uint _736 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _739 = (THREADS * TOKENS);
constant uint _740 = (_739 * 2u);
constant uint _765 = (64u * TOKENS);
constant uint _800 = (64u * TOKENS);

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

constant bool _859 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _1001 = (TOKENS == 1u);
constant uint _1074 = (TOKENS * 2u);
constant bool _1106 = (TOKENS >= 4u);
constant bool _1108 = (_1106 && true);
constant int _1109 = _1108 ? 2 : 4;
constant uint _1110 = (uint(_1109) + 0u);
constant bool _1166 = (TOKENS >= 4u);
constant bool _1167 = (_1166 && true);
constant int _1168 = _1167 ? 2 : 4;
constant uint _1169 = (uint(_1168) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1428 = (TOKENS >= 4u);
constant bool _1429 = (_1428 && true);
constant int _1430 = _1429 ? 2 : 4;
constant uint _1431 = (uint(_1430) + 0u);
constant uint _1432 = (_1431 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1502 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1508 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1508, 1u, 1u);

kernel void expert_up_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _221 [[buffer(1)]], const device X& _1241 [[buffer(2)]], device Y& _1484 [[buffer(3)]], const device Scores& _896 [[buffer(4)]], const device Step& _867 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_740];
    threadgroup float chunk_sums[_800];
    do
    {
        uint _857 = p.first_expert + gl_WorkGroupID.y;
        uint _2320;
        if (_859)
        {
            _2320 = 1u;
        }
        else
        {
            _2320 = _867.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _2321 = 0u; _2321 < _2320; _2321 += TOKENS)
        {
            for (uint _2442 = 0u; _2442 < TOKENS; _2442++)
            {
                uint _899 = _2321 + _2442;
                if ((_899 < _2320) && (_896.scores[(_899 * p.score_stride) + _857] > 0.0))
                {
                    uint _921 = _899 / 32u;
                    mask[_921] |= (1u << (_899 % 32u));
                }
            }
        }
        uint _949 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _956 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _965 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_965 == 0u)
        {
            break;
        }
        uint _1501;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        uint pair[4];
        for (uint _2322 = _965; _2322 != 0u; _2322 = _1501)
        {
            uint _992 = min(_2322, TOKENS);
            uint _2438;
            for (uint _2323 = 0u, _2439 = 0u; _2323 < TOKENS; _2439 = _2438, _2323++)
            {
                if (_1001)
                {
                    mask.x = 0u;
                    _2438 = _2439;
                }
                else
                {
                    uint _2440;
                    if (mask.x != 0u)
                    {
                        uint _1012 = mask.x;
                        uint _1015 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _2440 = uint(int(popcount((~_1012) & (_1015 - 1u))));
                    }
                    else
                    {
                        uint _2441;
                        if (mask.y != 0u)
                        {
                            uint _1035 = mask.y;
                            uint _1038 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _2441 = uint(32 + int(popcount((~_1035) & (_1038 - 1u))));
                        }
                        else
                        {
                            _2441 = _2439;
                        }
                        _2440 = _2441;
                    }
                    _2438 = _2440;
                }
                token[_2323] = _2438;
                x_at[_2323] = _2438 * p.x_stride;
            }
            for (uint _2324 = 0u; _2324 < _1074; )
            {
                acc[_2324] = 0.0;
                _2324++;
                continue;
            }
            uint _1526 = ((p.cols + 31u) / 32u) * 8u;
            uint _2325;
            _2325 = gl_LocalInvocationID.x;
            bool _1096;
            for (;;)
            {
                _1096 = _2325 < _1526;
                if (_1096)
                {
                    bool _1111 = 0u < _1110;
                    bool _1120;
                    if (_1111)
                    {
                        _1120 = _1096;
                    }
                    else
                    {
                        _1120 = _1111;
                    }
                    if (_1120)
                    {
                        uint4 _2303[1] = { _221.weights[_949 + _2325] };
                        spvArrayCopyFromStackToStack1(raw[0u], _2303);
                        pair[0u] = ((device uint*)&_221.weights[(_949 + _1526) + (_2325 >> uint(3))])[_2325 & 3u];
                    }
                    bool _2548 = 1u < _1110;
                    bool _2554;
                    if (_2548)
                    {
                        _2554 = (_2325 + THREADS) < _1526;
                    }
                    else
                    {
                        _2554 = _2548;
                    }
                    if (_2554)
                    {
                        uint _2557 = _2325 + THREADS;
                        uint4 _2567[1] = { _221.weights[_949 + _2557] };
                        spvArrayCopyFromStackToStack1(raw[1u], _2567);
                        pair[1u] = ((device uint*)&_221.weights[(_949 + _1526) + (_2557 >> uint(3))])[_2557 & 3u];
                    }
                    bool _2578 = 2u < _1110;
                    bool _2584;
                    if (_2578)
                    {
                        _2584 = (_2325 + (2u * THREADS)) < _1526;
                    }
                    else
                    {
                        _2584 = _2578;
                    }
                    if (_2584)
                    {
                        uint _2587 = _2325 + (2u * THREADS);
                        uint4 _2597[1] = { _221.weights[_949 + _2587] };
                        spvArrayCopyFromStackToStack1(raw[2u], _2597);
                        pair[2u] = ((device uint*)&_221.weights[(_949 + _1526) + (_2587 >> uint(3))])[_2587 & 3u];
                    }
                    bool _2608 = 3u < _1110;
                    bool _2614;
                    if (_2608)
                    {
                        _2614 = (_2325 + (3u * THREADS)) < _1526;
                    }
                    else
                    {
                        _2614 = _2608;
                    }
                    if (_2614)
                    {
                        uint _2617 = _2325 + (3u * THREADS);
                        uint4 _2627[1] = { _221.weights[_949 + _2617] };
                        spvArrayCopyFromStackToStack1(raw[3u], _2627);
                        pair[3u] = ((device uint*)&_221.weights[(_949 + _1526) + (_2617 >> uint(3))])[_2617 & 3u];
                    }
                    for (uint _2352 = 0u; _2352 < 4u; _2352++)
                    {
                        uint _1164 = _2325 + (_2352 * THREADS);
                        if ((_2352 >= _1169) || (_1164 >= _1526))
                        {
                            continue;
                        }
                        uint _1572 = raw[_2352][0].x >> 0u;
                        half2 _1584 = as_type<half2>((_1572 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _1598 = fma(as_type<half2>((_1572 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2643 = raw[_2352][0].x >> 8u;
                        half2 _2651 = as_type<half2>((_2643 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2661 = fma(as_type<half2>((_2643 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2680 = raw[_2352][0].y >> 0u;
                        half2 _2688 = as_type<half2>((_2680 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2698 = fma(as_type<half2>((_2680 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2711 = raw[_2352][0].y >> 8u;
                        half2 _2719 = as_type<half2>((_2711 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2729 = fma(as_type<half2>((_2711 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2754 = raw[_2352][0].z >> 0u;
                        half2 _2762 = as_type<half2>((_2754 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2772 = fma(as_type<half2>((_2754 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2785 = raw[_2352][0].z >> 8u;
                        half2 _2793 = as_type<half2>((_2785 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2803 = fma(as_type<half2>((_2785 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2823 = raw[_2352][0].w >> 0u;
                        half2 _2831 = as_type<half2>((_2823 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2841 = fma(as_type<half2>((_2823 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2854 = raw[_2352][0].w >> 8u;
                        half2 _2862 = as_type<half2>((_2854 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2872 = fma(as_type<half2>((_2854 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _1616 = pair[_2352] & 65535u;
                        uint _1631 = _1616 & 32767u;
                        uint _1633 = _1631 << uint(13);
                        float _1648 = (_1631 < 1024u) ? (as_type<float>(947912704u | _1633) - 6.103515625e-05) : as_type<float>(_1633 + ((_1631 < 31744u) ? 939524096u : 1879048192u));
                        float _2357;
                        if ((_1616 & 32768u) != 0u)
                        {
                            _2357 = -_1648;
                        }
                        else
                        {
                            _2357 = _1648;
                        }
                        uint _1620 = pair[_2352] >> uint(16);
                        uint _1667 = _1620 & 32767u;
                        uint _1669 = _1667 << uint(13);
                        float _1684 = (_1667 < 1024u) ? (as_type<float>(947912704u | _1669) - 6.103515625e-05) : as_type<float>(_1669 + ((_1667 < 31744u) ? 939524096u : 1879048192u));
                        float _2358;
                        if ((_1620 & 32768u) != 0u)
                        {
                            _2358 = -_1684;
                        }
                        else
                        {
                            _2358 = _1684;
                        }
                        uint _2366;
                        _2366 = 0u;
                        uint _2507;
                        for (uint _2359 = 0u; _2359 < TOKENS; _2366 = _2507, _2359 += 4u)
                        {
                            if ((_2359 != 0u) && (_2359 >= _2322))
                            {
                                _2507 = _2366;
                                continue;
                            }
                            uint _2406;
                            _2406 = _2366;
                            uint _2535;
                            for (uint _2389 = _2359; _2389 < (_2359 + 4u); _2406 = _2535, _2389++)
                            {
                                if (_2389 >= TOKENS)
                                {
                                    _2535 = _2406;
                                    continue;
                                }
                                uint _1704 = ((_1164 >> uint(3)) * 8u) + (((_1164 >> uint(2)) & 1u) * 2u);
                                uint _1250 = x_at[_2389] + _1704;
                                uint _2900 = x_at[_2389] + (_1704 + 1u);
                                uint _2924 = x_at[_2389] + (_1704 + 4u);
                                uint _2948 = x_at[_2389] + (_1704 + 5u);
                                half2 _1735 = half2(_1241.x[_1250].xz);
                                half2 _1744 = half2(_1241.x[_1250].yw);
                                half2 _2963 = half2(_1241.x[_2900].xz);
                                half2 _2970 = half2(_1241.x[_2900].yw);
                                half2 _2983 = half2(_1241.x[_2924].xz);
                                half2 _2990 = half2(_1241.x[_2924].yw);
                                half2 _3003 = half2(_1241.x[_2948].xz);
                                half2 _3010 = half2(_1241.x[_2948].yw);
                                half2 _3083 = max(max(max(max(max(max(max(abs(_1735), abs(_1744)), abs(_2963)), abs(_2970)), abs(_2983)), abs(_2990)), abs(_3003)), abs(_3010));
                                half _1772 = max(_3083.x, _3083.y);
                                bool _1777 = (_1772 >= half(0.03125)) && (_1772 <= half(512.0));
                                half2 _3179 = fma(_2729, _3010, fma(_2698, _3003, fma(_2661, _2990, fma(_1598, _2983, fma(_2719, _2970, fma(_2688, _2963, fma(_2651, _1744, spvFMul(_1584, _1735))))))));
                                half2 _3289 = fma(_2872, _3010, fma(_2841, _3003, fma(_2803, _2990, fma(_2772, _2983, fma(_2862, _2970, fma(_2831, _2963, fma(_2793, _1744, _2762 * _1735)))))));
                                uint _2400;
                                if (_1777)
                                {
                                    _2400 = 0u;
                                }
                                else
                                {
                                    _2400 = 1u << _2389;
                                }
                                uint _1292 = _2389 * 2u;
                                float _2410;
                                if (_1777)
                                {
                                    _2410 = fma(_2357, spvFAdd(float(_3179.x), float(_3179.y)), acc[_1292]);
                                }
                                else
                                {
                                    _2410 = acc[_1292];
                                }
                                acc[_1292] = _2410;
                                uint _3311 = _1292 + 1u;
                                float _3324;
                                if (_1777)
                                {
                                    _3324 = fma(_2358, float(_3289.x) + float(_3289.y), acc[_3311]);
                                }
                                else
                                {
                                    _3324 = acc[_3311];
                                }
                                acc[_3311] = _3324;
                                _2535 = _2406 | _2400;
                            }
                            _2507 = _2406;
                        }
                        uint _1327 = _2366 & ((1u << _992) - 1u);
                        if (_1327 != 0u)
                        {
                            float _1909 = as_type<float>((raw[_2352][0].x & 15u) | 1258291200u) - 8388616.0;
                            float _1917 = as_type<float>(((raw[_2352][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1925 = as_type<float>(((raw[_2352][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1933 = as_type<float>(((raw[_2352][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _1865 = raw[_2352][0].x >> uint(4);
                            float _1967 = as_type<float>((_1865 & 15u) | 1258291200u) - 8388616.0;
                            float _1975 = as_type<float>(((_1865 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1983 = as_type<float>(((_1865 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1991 = as_type<float>(((_1865 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _3342 = as_type<float>((raw[_2352][0].y & 15u) | 1258291200u) - 8388616.0;
                            float _3347 = as_type<float>(((raw[_2352][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3352 = as_type<float>(((raw[_2352][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3357 = as_type<float>(((raw[_2352][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _3367 = raw[_2352][0].y >> uint(4);
                            float _3371 = as_type<float>((_3367 & 15u) | 1258291200u) - 8388616.0;
                            float _3376 = as_type<float>(((_3367 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3381 = as_type<float>(((_3367 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3386 = as_type<float>(((_3367 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _3409 = as_type<float>((raw[_2352][0].z & 15u) | 1258291200u) - 8388616.0;
                            float _3414 = as_type<float>(((raw[_2352][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3419 = as_type<float>(((raw[_2352][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3424 = as_type<float>(((raw[_2352][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _3434 = raw[_2352][0].z >> uint(4);
                            float _3438 = as_type<float>((_3434 & 15u) | 1258291200u) - 8388616.0;
                            float _3443 = as_type<float>(((_3434 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3448 = as_type<float>(((_3434 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3453 = as_type<float>(((_3434 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _3471 = as_type<float>((raw[_2352][0].w & 15u) | 1258291200u) - 8388616.0;
                            float _3476 = as_type<float>(((raw[_2352][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3481 = as_type<float>(((raw[_2352][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3486 = as_type<float>(((raw[_2352][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _3496 = raw[_2352][0].w >> uint(4);
                            float _3500 = as_type<float>((_3496 & 15u) | 1258291200u) - 8388616.0;
                            float _3505 = as_type<float>(((_3496 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _3510 = as_type<float>(((_3496 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _3515 = as_type<float>(((_3496 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            for (uint _2373 = 0u; _2373 < TOKENS; _2373++)
                            {
                                uint _1350 = _1327 >> _2373;
                                if ((_1350 & 1u) == 0u)
                                {
                                    continue;
                                }
                                uint _2001 = ((_1164 >> uint(3)) * 8u) + (((_1164 >> uint(2)) & 1u) * 2u);
                                uint _2021 = uint(int(popcount((~_1350) & (_1350 - 1u))));
                                uint _1380 = (x_at[_2373] + _2001) + _2021;
                                uint _3548 = (x_at[_2373] + (_2001 + 1u)) + _2021;
                                uint _3579 = (x_at[_2373] + (_2001 + 4u)) + _2021;
                                uint _3610 = (x_at[_2373] + (_2001 + 5u)) + _2021;
                                uint _1410 = _2373 * 2u;
                                acc[_1410] = fma(_2357, fma(_3386, _1241.x[_3610].w, fma(_3381, _1241.x[_3610].z, fma(_3376, _1241.x[_3610].y, fma(_3371, _1241.x[_3610].x, fma(_1991, _1241.x[_3579].w, fma(_1983, _1241.x[_3579].z, fma(_1975, _1241.x[_3579].y, fma(_1967, _1241.x[_3579].x, fma(_3357, _1241.x[_3548].w, fma(_3352, _1241.x[_3548].z, fma(_3347, _1241.x[_3548].y, fma(_3342, _1241.x[_3548].x, fma(_1933, _1241.x[_1380].w, fma(_1925, _1241.x[_1380].z, fma(_1917, _1241.x[_1380].y, spvFMul(_1909, _1241.x[_1380].x)))))))))))))))), acc[_1410]);
                                uint _3833 = _1410 + 1u;
                                acc[_3833] = fma(_2358, fma(_3515, _1241.x[_3610].w, fma(_3510, _1241.x[_3610].z, fma(_3505, _1241.x[_3610].y, fma(_3500, _1241.x[_3610].x, fma(_3453, _1241.x[_3579].w, fma(_3448, _1241.x[_3579].z, fma(_3443, _1241.x[_3579].y, fma(_3438, _1241.x[_3579].x, fma(_3486, _1241.x[_3548].w, fma(_3481, _1241.x[_3548].z, fma(_3476, _1241.x[_3548].y, fma(_3471, _1241.x[_3548].x, fma(_3424, _1241.x[_1380].w, fma(_3419, _1241.x[_1380].z, fma(_3414, _1241.x[_1380].y, _3409 * _1241.x[_1380].x))))))))))))))), acc[_3833]);
                            }
                        }
                    }
                    _2325 += _1432;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _2326 = 0u; _2326 < _736; )
            {
                partial[(_2326 * THREADS) + gl_LocalInvocationID.x] = param[_2326];
                _2326++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _2327 = gl_LocalInvocationID.x; _2327 < _765; _2327 += THREADS)
            {
                uint _2164 = (((_2327 / 32u) * THREADS) + ((_2327 / 8u) % 4u)) + (4u * (_2327 % 8u));
                float _2350;
                _2350 = partial[_2164];
                for (uint _2348 = 32u; _2348 < THREADS; )
                {
                    _2350 = spvFAdd(_2350, partial[_2164 + _2348]);
                    _2348 += 32u;
                    continue;
                }
                chunk_sums[_2327] = _2350;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _2333;
            _2333 = 0u;
            uint _2446;
            for (uint _2328 = 0u; _2328 < TOKENS; _2333 = _2446, _2328++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _2328)
                {
                    _2446 = token[_2328];
                }
                else
                {
                    _2446 = _2333;
                }
            }
            bool _1461 = gl_LocalInvocationID.x < (8u * _992);
            bool _1468;
            if (_1461)
            {
                _1468 = _956 < p.rows;
            }
            else
            {
                _1468 = _1461;
            }
            if (_1468)
            {
                uint _1475 = gl_LocalInvocationID.x % 8u;
                uint _2205 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1475 % 2u)) * 4u) + (_1475 / 2u)) * 8u;
                float _1480 = spvFMul((((((spvFAdd(chunk_sums[_2205], chunk_sums[_2205 + 1u]) + chunk_sums[_2205 + 2u]) + chunk_sums[_2205 + 3u]) + chunk_sums[_2205 + 4u]) + chunk_sums[_2205 + 5u]) + chunk_sums[_2205 + 6u]) + chunk_sums[_2205 + 7u], 1.0);
                float _2233 = -abs(_1480);
                float _2334;
                do
                {
                    if (_2233 < (-87.0))
                    {
                        _2334 = 0.0;
                        break;
                    }
                    float _2262 = floor(fma(_2233, 1.44269502162933349609375, 0.5));
                    float _2268 = fma(_2262, 0.00021219444170128554105758666992188, fma(_2262, -0.693359375, _2233));
                    _2334 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _2268, 0.00139819993637502193450927734375), _2268, 0.008333452045917510986328125), _2268, 0.0416657961905002593994140625), _2268, 0.1666666567325592041015625), _2268, 0.5), _2268), _2268, _2268), 1.0) * as_type<float>(uint(int(_2262) + 127) << uint(23));
                    break;
                } while(false);
                float _2335;
                if (_1480 < 0.0)
                {
                    _2335 = _1480 * _2334;
                }
                else
                {
                    _2335 = _1480;
                }
                _1484.y[(((_857 * 64u) + _2333) * p.y_stride) + _956] = _2335 / (1.0 + _2334);
            }
            _1501 = _2322 - _992;
            if (_1502 && (_1501 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

