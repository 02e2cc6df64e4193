// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
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
constant uint _645 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _648 = (THREADS * TOKENS);
constant uint _649 = (_648 * 2u);
constant uint _674 = (64u * TOKENS);
constant uint _709 = (64u * TOKENS);
constant bool _765 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _832 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _932 = (TOKENS * 2u);
constant bool _964 = (TOKENS >= 4u);
constant bool _966 = (_964 && true);
constant int _967 = _966 ? 2 : 4;
constant uint _968 = (uint(_967) + 0u);
constant bool _1024 = (TOKENS >= 4u);
constant bool _1025 = (_1024 && true);
constant int _1026 = _1025 ? 2 : 4;
constant uint _1027 = (uint(_1026) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1286 = (TOKENS >= 4u);
constant bool _1287 = (_1286 && true);
constant int _1288 = _1287 ? 2 : 4;
constant uint _1289 = (uint(_1288) + 0u);
constant uint _1290 = (_1289 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1367 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1367, 1u, 1u);

kernel void linear_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _129 [[buffer(1)]], const device X& _1099 [[buffer(2)]], device Y& _857 [[buffer(3)]], const device Bias& _1320 [[buffer(4)]], const device Step& _773 [[buffer(5)]], const device Residual& _1344 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_649];
    threadgroup float chunk_sums[_709];
    do
    {
        uint _763 = gl_WorkGroupID.z * TOKENS;
        uint _2099;
        if (_765)
        {
            _2099 = 1u;
        }
        else
        {
            _2099 = _773.step_[0];
        }
        uint _2100;
        if ((p.flags & 2u) != 0u)
        {
            _2100 = _773.step_[2];
        }
        else
        {
            _2100 = 0u;
        }
        if (_763 >= _2099)
        {
            break;
        }
        uint _811 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _816 = _763 + (gl_LocalInvocationID.x / 8u);
        uint _826 = gl_WorkGroupID.y * p.y_group;
        uint _829 = ((_816 * p.y_stride) + _826) + _811;
        bool _833 = gl_LocalInvocationID.x < _832;
        bool _840;
        if (_833)
        {
            _840 = _811 < p.rows;
        }
        else
        {
            _840 = _833;
        }
        bool _843 = _816 < _2099;
        bool _844 = _840 && _843;
        if ((_763 + TOKENS) <= _2100)
        {
            if (_844)
            {
                _857.y[_829] = 0.0;
            }
            break;
        }
        uint _876 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _2101 = 0u; _2101 < TOKENS; )
        {
            x_at[_2101] = ((_763 + _2101) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _2101++;
            continue;
        }
        uint _908 = _2099 - _763;
        float acc[16];
        for (uint _2102 = 0u; _2102 < _932; )
        {
            acc[_2102] = 0.0;
            _2102++;
            continue;
        }
        uint _1380 = ((p.cols + 31u) / 32u) * 8u;
        uint _2103;
        _2103 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        uint pair[4];
        bool _954;
        for (;;)
        {
            _954 = _2103 < _1380;
            if (_954)
            {
                bool _969 = 0u < _968;
                bool _978;
                if (_969)
                {
                    _978 = _954;
                }
                else
                {
                    _978 = _969;
                }
                if (_978)
                {
                    uint4 _2082[1] = { _129.weights[_876 + _2103] };
                    spvArrayCopyFromStackToStack1(raw[0u], _2082);
                    pair[0u] = ((device uint*)&_129.weights[(_876 + _1380) + (_2103 >> uint(3))])[_2103 & 3u];
                }
                bool _2333 = 1u < _968;
                bool _2339;
                if (_2333)
                {
                    _2339 = (_2103 + THREADS) < _1380;
                }
                else
                {
                    _2339 = _2333;
                }
                if (_2339)
                {
                    uint _2342 = _2103 + THREADS;
                    uint4 _2352[1] = { _129.weights[_876 + _2342] };
                    spvArrayCopyFromStackToStack1(raw[1u], _2352);
                    pair[1u] = ((device uint*)&_129.weights[(_876 + _1380) + (_2342 >> uint(3))])[_2342 & 3u];
                }
                bool _2363 = 2u < _968;
                bool _2369;
                if (_2363)
                {
                    _2369 = (_2103 + (2u * THREADS)) < _1380;
                }
                else
                {
                    _2369 = _2363;
                }
                if (_2369)
                {
                    uint _2372 = _2103 + (2u * THREADS);
                    uint4 _2382[1] = { _129.weights[_876 + _2372] };
                    spvArrayCopyFromStackToStack1(raw[2u], _2382);
                    pair[2u] = ((device uint*)&_129.weights[(_876 + _1380) + (_2372 >> uint(3))])[_2372 & 3u];
                }
                bool _2393 = 3u < _968;
                bool _2399;
                if (_2393)
                {
                    _2399 = (_2103 + (3u * THREADS)) < _1380;
                }
                else
                {
                    _2399 = _2393;
                }
                if (_2399)
                {
                    uint _2402 = _2103 + (3u * THREADS);
                    uint4 _2412[1] = { _129.weights[_876 + _2402] };
                    spvArrayCopyFromStackToStack1(raw[3u], _2412);
                    pair[3u] = ((device uint*)&_129.weights[(_876 + _1380) + (_2402 >> uint(3))])[_2402 & 3u];
                }
                for (uint _2114 = 0u; _2114 < 4u; _2114++)
                {
                    uint _1022 = _2103 + (_2114 * THREADS);
                    if ((_2114 >= _1027) || (_1022 >= _1380))
                    {
                        continue;
                    }
                    uint _1426 = raw[_2114][0].x >> 0u;
                    half2 _1438 = as_type<half2>((_1426 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _1452 = fma(as_type<half2>((_1426 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2428 = raw[_2114][0].x >> 8u;
                    half2 _2436 = as_type<half2>((_2428 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2446 = fma(as_type<half2>((_2428 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2465 = raw[_2114][0].y >> 0u;
                    half2 _2473 = as_type<half2>((_2465 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2483 = fma(as_type<half2>((_2465 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2496 = raw[_2114][0].y >> 8u;
                    half2 _2504 = as_type<half2>((_2496 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2514 = fma(as_type<half2>((_2496 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2539 = raw[_2114][0].z >> 0u;
                    half2 _2547 = as_type<half2>((_2539 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2557 = fma(as_type<half2>((_2539 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2570 = raw[_2114][0].z >> 8u;
                    half2 _2578 = as_type<half2>((_2570 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2588 = fma(as_type<half2>((_2570 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2608 = raw[_2114][0].w >> 0u;
                    half2 _2616 = as_type<half2>((_2608 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2626 = fma(as_type<half2>((_2608 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2639 = raw[_2114][0].w >> 8u;
                    half2 _2647 = as_type<half2>((_2639 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2657 = fma(as_type<half2>((_2639 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _1470 = pair[_2114] & 65535u;
                    uint _1485 = _1470 & 32767u;
                    uint _1487 = _1485 << uint(13);
                    float _1502 = (_1485 < 1024u) ? (as_type<float>(947912704u | _1487) - 6.103515625e-05) : as_type<float>(_1487 + ((_1485 < 31744u) ? 939524096u : 1879048192u));
                    float _2119;
                    if ((_1470 & 32768u) != 0u)
                    {
                        _2119 = -_1502;
                    }
                    else
                    {
                        _2119 = _1502;
                    }
                    uint _1474 = pair[_2114] >> uint(16);
                    uint _1521 = _1474 & 32767u;
                    uint _1523 = _1521 << uint(13);
                    float _1538 = (_1521 < 1024u) ? (as_type<float>(947912704u | _1523) - 6.103515625e-05) : as_type<float>(_1523 + ((_1521 < 31744u) ? 939524096u : 1879048192u));
                    float _2120;
                    if ((_1474 & 32768u) != 0u)
                    {
                        _2120 = -_1538;
                    }
                    else
                    {
                        _2120 = _1538;
                    }
                    uint _2122;
                    _2122 = 0u;
                    uint _2221;
                    for (uint _2121 = 0u; _2121 < TOKENS; _2122 = _2221, _2121 += 4u)
                    {
                        if ((_2121 != 0u) && (_2121 >= _908))
                        {
                            _2221 = _2122;
                            continue;
                        }
                        uint _2162;
                        _2162 = _2122;
                        uint _2249;
                        for (uint _2145 = _2121; _2145 < (_2121 + 4u); _2162 = _2249, _2145++)
                        {
                            if (_2145 >= TOKENS)
                            {
                                _2249 = _2162;
                                continue;
                            }
                            uint _1558 = ((_1022 >> uint(3)) * 8u) + (((_1022 >> uint(2)) & 1u) * 2u);
                            uint _1108 = x_at[_2145] + _1558;
                            uint _2685 = x_at[_2145] + (_1558 + 1u);
                            uint _2709 = x_at[_2145] + (_1558 + 4u);
                            uint _2733 = x_at[_2145] + (_1558 + 5u);
                            half2 _1589 = half2(_1099.x[_1108].xz);
                            half2 _1598 = half2(_1099.x[_1108].yw);
                            half2 _2748 = half2(_1099.x[_2685].xz);
                            half2 _2755 = half2(_1099.x[_2685].yw);
                            half2 _2768 = half2(_1099.x[_2709].xz);
                            half2 _2775 = half2(_1099.x[_2709].yw);
                            half2 _2788 = half2(_1099.x[_2733].xz);
                            half2 _2795 = half2(_1099.x[_2733].yw);
                            half2 _2868 = max(max(max(max(max(max(max(abs(_1589), abs(_1598)), abs(_2748)), abs(_2755)), abs(_2768)), abs(_2775)), abs(_2788)), abs(_2795));
                            half _1626 = max(_2868.x, _2868.y);
                            bool _1631 = (_1626 >= half(0.03125)) && (_1626 <= half(512.0));
                            half2 _2964 = fma(_2514, _2795, fma(_2483, _2788, fma(_2446, _2775, fma(_1452, _2768, fma(_2504, _2755, fma(_2473, _2748, fma(_2436, _1598, spvFMul(_1438, _1589))))))));
                            half2 _3074 = fma(_2657, _2795, fma(_2626, _2788, fma(_2588, _2775, fma(_2557, _2768, fma(_2647, _2755, fma(_2616, _2748, fma(_2578, _1598, _2547 * _1589)))))));
                            uint _2156;
                            if (_1631)
                            {
                                _2156 = 0u;
                            }
                            else
                            {
                                _2156 = 1u << _2145;
                            }
                            uint _1150 = _2145 * 2u;
                            float _2166;
                            if (_1631)
                            {
                                _2166 = fma(_2119, spvFAdd(float(_2964.x), float(_2964.y)), acc[_1150]);
                            }
                            else
                            {
                                _2166 = acc[_1150];
                            }
                            acc[_1150] = _2166;
                            uint _3096 = _1150 + 1u;
                            float _3109;
                            if (_1631)
                            {
                                _3109 = fma(_2120, float(_3074.x) + float(_3074.y), acc[_3096]);
                            }
                            else
                            {
                                _3109 = acc[_3096];
                            }
                            acc[_3096] = _3109;
                            _2249 = _2162 | _2156;
                        }
                        _2221 = _2162;
                    }
                    uint _1185 = _2122 & ((1u << min(_908, TOKENS)) - 1u);
                    if (_1185 != 0u)
                    {
                        float _1763 = as_type<float>((raw[_2114][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _1771 = as_type<float>(((raw[_2114][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1779 = as_type<float>(((raw[_2114][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1787 = as_type<float>(((raw[_2114][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1719 = raw[_2114][0].x >> uint(4);
                        float _1821 = as_type<float>((_1719 & 15u) | 1258291200u) - 8388616.0;
                        float _1829 = as_type<float>(((_1719 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1837 = as_type<float>(((_1719 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1845 = as_type<float>(((_1719 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3127 = as_type<float>((raw[_2114][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _3132 = as_type<float>(((raw[_2114][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3137 = as_type<float>(((raw[_2114][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3142 = as_type<float>(((raw[_2114][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3152 = raw[_2114][0].y >> uint(4);
                        float _3156 = as_type<float>((_3152 & 15u) | 1258291200u) - 8388616.0;
                        float _3161 = as_type<float>(((_3152 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3166 = as_type<float>(((_3152 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3171 = as_type<float>(((_3152 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3194 = as_type<float>((raw[_2114][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _3199 = as_type<float>(((raw[_2114][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3204 = as_type<float>(((raw[_2114][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3209 = as_type<float>(((raw[_2114][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3219 = raw[_2114][0].z >> uint(4);
                        float _3223 = as_type<float>((_3219 & 15u) | 1258291200u) - 8388616.0;
                        float _3228 = as_type<float>(((_3219 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3233 = as_type<float>(((_3219 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3238 = as_type<float>(((_3219 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3256 = as_type<float>((raw[_2114][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _3261 = as_type<float>(((raw[_2114][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3266 = as_type<float>(((raw[_2114][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3271 = as_type<float>(((raw[_2114][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3281 = raw[_2114][0].w >> uint(4);
                        float _3285 = as_type<float>((_3281 & 15u) | 1258291200u) - 8388616.0;
                        float _3290 = as_type<float>(((_3281 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3295 = as_type<float>(((_3281 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3300 = as_type<float>(((_3281 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        for (uint _2129 = 0u; _2129 < TOKENS; _2129++)
                        {
                            uint _1208 = _1185 >> _2129;
                            if ((_1208 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1855 = ((_1022 >> uint(3)) * 8u) + (((_1022 >> uint(2)) & 1u) * 2u);
                            uint _1875 = uint(int(popcount((~_1208) & (_1208 - 1u))));
                            uint _1238 = (x_at[_2129] + _1855) + _1875;
                            uint _3333 = (x_at[_2129] + (_1855 + 1u)) + _1875;
                            uint _3364 = (x_at[_2129] + (_1855 + 4u)) + _1875;
                            uint _3395 = (x_at[_2129] + (_1855 + 5u)) + _1875;
                            uint _1268 = _2129 * 2u;
                            acc[_1268] = fma(_2119, fma(_3171, _1099.x[_3395].w, fma(_3166, _1099.x[_3395].z, fma(_3161, _1099.x[_3395].y, fma(_3156, _1099.x[_3395].x, fma(_1845, _1099.x[_3364].w, fma(_1837, _1099.x[_3364].z, fma(_1829, _1099.x[_3364].y, fma(_1821, _1099.x[_3364].x, fma(_3142, _1099.x[_3333].w, fma(_3137, _1099.x[_3333].z, fma(_3132, _1099.x[_3333].y, fma(_3127, _1099.x[_3333].x, fma(_1787, _1099.x[_1238].w, fma(_1779, _1099.x[_1238].z, fma(_1771, _1099.x[_1238].y, spvFMul(_1763, _1099.x[_1238].x)))))))))))))))), acc[_1268]);
                            uint _3618 = _1268 + 1u;
                            acc[_3618] = fma(_2120, fma(_3300, _1099.x[_3395].w, fma(_3295, _1099.x[_3395].z, fma(_3290, _1099.x[_3395].y, fma(_3285, _1099.x[_3395].x, fma(_3238, _1099.x[_3364].w, fma(_3233, _1099.x[_3364].z, fma(_3228, _1099.x[_3364].y, fma(_3223, _1099.x[_3364].x, fma(_3271, _1099.x[_3333].w, fma(_3266, _1099.x[_3333].z, fma(_3261, _1099.x[_3333].y, fma(_3256, _1099.x[_3333].x, fma(_3209, _1099.x[_1238].w, fma(_3204, _1099.x[_1238].z, fma(_3199, _1099.x[_1238].y, _3194 * _1099.x[_1238].x))))))))))))))), acc[_3618]);
                        }
                    }
                }
                _2103 += _1290;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _2104 = 0u; _2104 < _645; )
        {
            partial[(_2104 * THREADS) + gl_LocalInvocationID.x] = param[_2104];
            _2104++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _2105 = gl_LocalInvocationID.x; _2105 < _674; _2105 += THREADS)
        {
            uint _2018 = (((_2105 / 32u) * THREADS) + ((_2105 / 8u) % 4u)) + (4u * (_2105 % 8u));
            float _2112;
            _2112 = partial[_2018];
            for (uint _2110 = 32u; _2110 < THREADS; )
            {
                _2112 = spvFAdd(_2112, partial[_2018 + _2110]);
                _2110 += 32u;
                continue;
            }
            chunk_sums[_2105] = _2112;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_844)
        {
            break;
        }
        uint _1305 = gl_LocalInvocationID.x % 8u;
        uint _2059 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1305 % 2u)) * 4u) + (_1305 / 2u)) * 8u;
        float _1310 = spvFMul((((((spvFAdd(chunk_sums[_2059], chunk_sums[_2059 + 1u]) + chunk_sums[_2059 + 2u]) + chunk_sums[_2059 + 3u]) + chunk_sums[_2059 + 4u]) + chunk_sums[_2059 + 5u]) + chunk_sums[_2059 + 6u]) + chunk_sums[_2059 + 7u], spvFMul(p.scale, 1.0));
        float _2108;
        if ((p.flags & 1u) != 0u)
        {
            _2108 = spvFAdd(_1310, _1320.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _811]);
        }
        else
        {
            _2108 = _1310;
        }
        float _2109;
        if ((p.flags & 4u) != 0u)
        {
            _2109 = spvFAdd(_2108, _1344.residual[((_816 * p.residual_stride) + _826) + _811]);
        }
        else
        {
            _2109 = _2108;
        }
        _857.y[_829] = (_816 < _2100) ? 0.0 : _2109;
        break;
    } while(false);
}

