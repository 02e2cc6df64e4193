// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
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
constant uint _647 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _650 = (THREADS * TOKENS);
constant uint _651 = (_650 * 2u);
constant uint _676 = (64u * TOKENS);
constant uint _711 = (64u * TOKENS);
constant bool _763 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _824 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _939 = (1u << TOKENS);
constant uint _940 = (_939 - 1u);
constant uint _953 = (64u * TOKENS);
constant bool _1044 = (TOKENS == 1u);
constant int _1045 = _1044 ? 4 : 4;
constant uint _1046 = (uint(_1045) + 0u);
constant bool _1064 = (TOKENS == 1u);
constant bool _1119 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1171 = (TOKENS == 1u);
constant int _1172 = _1171 ? 4 : 4;
constant uint _1173 = (uint(_1172) + 0u);
constant bool _1178 = (TOKENS != 1u);
constant bool _1214 = (TOKENS != 1u);
constant bool _1269 = (TOKENS == 1u);
constant bool _1494 = (TOKENS == 1u);
constant int _1495 = _1494 ? 4 : 4;
constant uint _1496 = (uint(_1495) + 0u);
constant uint _1521 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1591 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1591, 1u, 1u);

kernel void expert_down_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _134 [[buffer(1)]], const device X& _1138 [[buffer(2)]], device Y& _1560 [[buffer(3)]], const device Route& _843 [[buffer(4)]], const device Step& _770 [[buffer(5)]], const device Residual& _1576 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_651];
    threadgroup float chunk_sums[_711];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_953];
    do
    {
        uint _762 = gl_WorkGroupID.y * TOKENS;
        bool _774;
        if (_763)
        {
            _774 = _762 >= _770.step_[0];
        }
        else
        {
            _774 = _763;
        }
        if (_774)
        {
            break;
        }
        uint _1603 = ((p.cols + 31u) / 32u) * 8u;
        uint _792 = THREADS / p.classes;
        uint _796 = gl_LocalInvocationID.x / _792;
        uint _800 = 64u / p.classes;
        uint _1611 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _816 = 16u + ((_1611 * p.classes) * 4u);
        float acc[16];
        for (uint _2347 = 0u; _2347 < _824; )
        {
            acc[_2347] = 0.0;
            _2347++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _843.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][1];
        uint pair[4];
        float4 hidden[4][4];
        uint _2359;
        for (uint _2348 = 0u, _2360 = 1u; _2348 < _1603; _2360 = _2359, _2348 += _792)
        {
            _2359 = _2360;
            uint _2457;
            for (uint _2358 = 0u; _2358 < _2359; _2359 = _2457, _2358 += _800)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _2362;
                _2362 = gl_LocalInvocationID.x;
                for (; _2362 < 64u; _2362 += THREADS)
                {
                    uint _894 = ((_2362 / _800) * _1611) + min((_2358 + (_2362 % _800)), (_1611 - 1u));
                    uint _898 = 16u + (_894 * 4u);
                    uint _903 = _843.route[_898] - p.first_expert;
                    bool _911 = _903 < p.experts;
                    slot_expert[_2362] = _911 ? _903 : 0u;
                    uint _2459;
                    if (_911)
                    {
                        _2459 = (_843.route[_898 + uint((_762 < 32u) ? 1 : 2)] >> (_762 & 31u)) & _940;
                    }
                    else
                    {
                        _2459 = 0u;
                    }
                    slot_mask[_2362] = _2459;
                    for (uint _2460 = 0u; _2460 < TOKENS; )
                    {
                        slot_weight[(_2362 * TOKENS) + _2460] = as_type<float>(_843.route[((_816 + (_894 * 64u)) + _762) + _2460]);
                        _2460++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2457 = _2359;
                for (uint _2363 = 0u; _2363 < p.classes; )
                {
                    _2457 = max(_2457, counts[_2363]);
                    _2363++;
                    continue;
                }
                uint _999 = _2348 + (gl_LocalInvocationID.x % _792);
                uint _1003 = _796 * _800;
                uint _2368;
                if ((_999 < _1603) && (counts[_796] > _2358))
                {
                    _2368 = min((counts[_796] - _2358), _800);
                }
                else
                {
                    _2368 = 0u;
                }
                for (uint _2369 = 0u; _2369 < _2368; _2369 += _1496)
                {
                    for (uint _2372 = 0u; _2372 < 4u; _2372++)
                    {
                        if (_2372 >= _1046)
                        {
                            continue;
                        }
                        uint _1055 = _2369 + _2372;
                        uint _1059 = _1003 + min(_1055, (_2368 - 1u));
                        bool _1080;
                        if (!_1064)
                        {
                            bool _1072 = _1055 < _2368;
                            bool _1079;
                            if (_1072)
                            {
                                _1079 = slot_mask[_1059] != 0u;
                            }
                            else
                            {
                                _1079 = _1072;
                            }
                            _1080 = _1079;
                        }
                        else
                        {
                            _1080 = _1064;
                        }
                        if (_1080)
                        {
                            uint _1095 = (p.first + (slot_expert[_1059] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2330[1] = { _134.weights[_1095 + _999] };
                            spvArrayCopyFromStackToStack1(raw[_2372], _2330);
                            pair[_2372] = ((device uint*)&_134.weights[(_1095 + _1603) + (_999 >> uint(3))])[_999 & 3u];
                        }
                        if (_1119)
                        {
                            uint _1147 = ((p.first_expert + slot_expert[_1059]) * 64u) * p.x_stride;
                            uint _1638 = ((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u);
                            hidden[_2372][0u] = _1138.x[_1147 + _1638];
                            hidden[_2372][1u] = _1138.x[_1147 + (_1638 + 1u)];
                            hidden[_2372][2u] = _1138.x[_1147 + (_1638 + 4u)];
                            hidden[_2372][3u] = _1138.x[_1147 + (_1638 + 5u)];
                        }
                    }
                    for (uint _2373 = 0u; _2373 < 4u; _2373++)
                    {
                        bool _1174 = _2373 >= _1173;
                        bool _1187;
                        if (!_1174)
                        {
                            bool _1186;
                            if (_1178)
                            {
                                _1186 = (_2369 + _2373) >= _2368;
                            }
                            else
                            {
                                _1186 = _1178;
                            }
                            _1187 = _1186;
                        }
                        else
                        {
                            _1187 = _1174;
                        }
                        if (_1187)
                        {
                            continue;
                        }
                        uint _1199 = _1003 + min((_2369 + _2373), (_2368 - 1u));
                        uint _2380;
                        if ((_2369 + _2373) < _2368)
                        {
                            _2380 = slot_mask[_1199];
                        }
                        else
                        {
                            _2380 = 0u;
                        }
                        if (_1214 && (_2380 == 0u))
                        {
                            continue;
                        }
                        uint _1674 = raw[_2373][0].x >> 0u;
                        half2 _1686 = as_type<half2>((_1674 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _1700 = fma(as_type<half2>((_1674 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2803 = raw[_2373][0].x >> 8u;
                        half2 _2811 = as_type<half2>((_2803 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2821 = fma(as_type<half2>((_2803 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2840 = raw[_2373][0].y >> 0u;
                        half2 _2848 = as_type<half2>((_2840 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2858 = fma(as_type<half2>((_2840 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2871 = raw[_2373][0].y >> 8u;
                        half2 _2879 = as_type<half2>((_2871 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2889 = fma(as_type<half2>((_2871 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2914 = raw[_2373][0].z >> 0u;
                        half2 _2922 = as_type<half2>((_2914 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2932 = fma(as_type<half2>((_2914 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2945 = raw[_2373][0].z >> 8u;
                        half2 _2953 = as_type<half2>((_2945 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2963 = fma(as_type<half2>((_2945 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2983 = raw[_2373][0].w >> 0u;
                        half2 _2991 = as_type<half2>((_2983 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _3001 = fma(as_type<half2>((_2983 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _3014 = raw[_2373][0].w >> 8u;
                        half2 _3022 = as_type<half2>((_3014 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _3032 = fma(as_type<half2>((_3014 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _1718 = pair[_2373] & 65535u;
                        uint _1733 = _1718 & 32767u;
                        uint _1735 = _1733 << uint(13);
                        float _1750 = (_1733 < 1024u) ? (as_type<float>(947912704u | _1735) - 6.103515625e-05) : as_type<float>(_1735 + ((_1733 < 31744u) ? 939524096u : 1879048192u));
                        float _2384;
                        if ((_1718 & 32768u) != 0u)
                        {
                            _2384 = -_1750;
                        }
                        else
                        {
                            _2384 = _1750;
                        }
                        uint _1722 = pair[_2373] >> uint(16);
                        uint _1769 = _1722 & 32767u;
                        uint _1771 = _1769 << uint(13);
                        float _1786 = (_1769 < 1024u) ? (as_type<float>(947912704u | _1771) - 6.103515625e-05) : as_type<float>(_1771 + ((_1769 < 31744u) ? 939524096u : 1879048192u));
                        float _2385;
                        if ((_1722 & 32768u) != 0u)
                        {
                            _2385 = -_1786;
                        }
                        else
                        {
                            _2385 = _1786;
                        }
                        uint _1250 = (((p.first_expert + slot_expert[_1199]) * 64u) + _762) * p.x_stride;
                        uint _2387;
                        _2387 = 0u;
                        uint _1323;
                        for (uint _2386 = 0u; _2386 < TOKENS; _2387 = _1323, _2386++)
                        {
                            float4 _2434;
                            if (_1269)
                            {
                                _2434 = hidden[_2373][0u];
                            }
                            else
                            {
                                _2434 = _1138.x[(_1250 + (_2386 * p.x_stride)) + (((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u))];
                            }
                            float4 _3070;
                            if (_1269)
                            {
                                _3070 = hidden[_2373][1u];
                            }
                            else
                            {
                                _3070 = _1138.x[(_1250 + (_2386 * p.x_stride)) + ((((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u)) + 1u)];
                            }
                            float4 _3102;
                            if (_1269)
                            {
                                _3102 = hidden[_2373][2u];
                            }
                            else
                            {
                                _3102 = _1138.x[(_1250 + (_2386 * p.x_stride)) + ((((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u)) + 4u)];
                            }
                            float4 _3134;
                            if (_1269)
                            {
                                _3134 = hidden[_2373][3u];
                            }
                            else
                            {
                                _3134 = _1138.x[(_1250 + (_2386 * p.x_stride)) + ((((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u)) + 5u)];
                            }
                            bool _1301 = ((_2380 >> _2386) & 1u) != 0u;
                            half2 _1837 = half2(_2434.xz);
                            half2 _1846 = half2(_2434.yw);
                            half2 _3147 = half2(_3070.xz);
                            half2 _3154 = half2(_3070.yw);
                            half2 _3167 = half2(_3102.xz);
                            half2 _3174 = half2(_3102.yw);
                            half2 _3187 = half2(_3134.xz);
                            half2 _3194 = half2(_3134.yw);
                            half2 _3267 = max(max(max(max(max(max(max(abs(_1837), abs(_1846)), abs(_3147)), abs(_3154)), abs(_3167)), abs(_3174)), abs(_3187)), abs(_3194));
                            half _1874 = max(_3267.x, _3267.y);
                            bool _1879 = (_1874 >= half(0.03125)) && (_1874 <= half(512.0));
                            half2 _3363 = fma(_2889, _3194, fma(_2858, _3187, fma(_2821, _3174, fma(_1700, _3167, fma(_2879, _3154, fma(_2848, _3147, fma(_2811, _1846, spvFMul(_1686, _1837))))))));
                            half2 _3473 = fma(_3032, _3194, fma(_3001, _3187, fma(_2963, _3174, fma(_2932, _3167, fma(_3022, _3154, fma(_2991, _3147, fma(_2953, _1846, _2922 * _1837)))))));
                            uint _2419;
                            if (_1301 && (!_1879))
                            {
                                _2419 = 1u << _2386;
                            }
                            else
                            {
                                _2419 = 0u;
                            }
                            _1323 = _2387 | _2419;
                            uint _1328 = (_1199 * TOKENS) + _2386;
                            uint _1351 = _2386 * 2u;
                            bool _1363 = _1301 && _1879;
                            float _2428;
                            if (_1363)
                            {
                                _2428 = fma(spvFMul(slot_weight[_1328], _2384), spvFAdd(float(_3363.x), float(_3363.y)), acc[_1351]);
                            }
                            else
                            {
                                _2428 = acc[_1351];
                            }
                            acc[_1351] = _2428;
                            uint _3496 = _1351 + 1u;
                            float _3510;
                            if (_1363)
                            {
                                _3510 = fma(slot_weight[_1328] * _2385, float(_3473.x) + float(_3473.y), acc[_3496]);
                            }
                            else
                            {
                                _3510 = acc[_3496];
                            }
                            acc[_3496] = _3510;
                        }
                        if (_2387 == 0u)
                        {
                            continue;
                        }
                        float _2011 = as_type<float>((raw[_2373][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _2019 = as_type<float>(((raw[_2373][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2027 = as_type<float>(((raw[_2373][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2035 = as_type<float>(((raw[_2373][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1967 = raw[_2373][0].x >> uint(4);
                        float _2069 = as_type<float>((_1967 & 15u) | 1258291200u) - 8388616.0;
                        float _2077 = as_type<float>(((_1967 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2085 = as_type<float>(((_1967 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2093 = as_type<float>(((_1967 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3528 = as_type<float>((raw[_2373][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _3533 = as_type<float>(((raw[_2373][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3538 = as_type<float>(((raw[_2373][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3543 = as_type<float>(((raw[_2373][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3553 = raw[_2373][0].y >> uint(4);
                        float _3557 = as_type<float>((_3553 & 15u) | 1258291200u) - 8388616.0;
                        float _3562 = as_type<float>(((_3553 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3567 = as_type<float>(((_3553 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3572 = as_type<float>(((_3553 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3595 = as_type<float>((raw[_2373][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _3600 = as_type<float>(((raw[_2373][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3605 = as_type<float>(((raw[_2373][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3610 = as_type<float>(((raw[_2373][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3620 = raw[_2373][0].z >> uint(4);
                        float _3624 = as_type<float>((_3620 & 15u) | 1258291200u) - 8388616.0;
                        float _3629 = as_type<float>(((_3620 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3634 = as_type<float>(((_3620 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3639 = as_type<float>(((_3620 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _3657 = as_type<float>((raw[_2373][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _3662 = as_type<float>(((raw[_2373][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3667 = as_type<float>(((raw[_2373][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3672 = as_type<float>(((raw[_2373][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _3682 = raw[_2373][0].w >> uint(4);
                        float _3686 = as_type<float>((_3682 & 15u) | 1258291200u) - 8388616.0;
                        float _3691 = as_type<float>(((_3682 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _3696 = as_type<float>(((_3682 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _3701 = as_type<float>(((_3682 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        for (uint _2394 = 0u; _2394 < TOKENS; _2394++)
                        {
                            uint _1404 = _2387 >> _2394;
                            if ((_1404 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1425 = _1250 + (_2394 * p.x_stride);
                            uint _2103 = ((_999 >> uint(3)) * 8u) + (((_999 >> uint(2)) & 1u) * 2u);
                            uint _2123 = uint(int(popcount((~_1404) & (_1404 - 1u))));
                            uint _1437 = (_1425 + _2103) + _2123;
                            uint _3736 = (_1425 + (_2103 + 1u)) + _2123;
                            uint _3769 = (_1425 + (_2103 + 4u)) + _2123;
                            uint _3802 = (_1425 + (_2103 + 5u)) + _2123;
                            uint _1463 = (_1199 * TOKENS) + _2394;
                            uint _1476 = _2394 * 2u;
                            acc[_1476] = fma(spvFMul(slot_weight[_1463], _2384), fma(_3572, _1138.x[_3802].w, fma(_3567, _1138.x[_3802].z, fma(_3562, _1138.x[_3802].y, fma(_3557, _1138.x[_3802].x, fma(_2093, _1138.x[_3769].w, fma(_2085, _1138.x[_3769].z, fma(_2077, _1138.x[_3769].y, fma(_2069, _1138.x[_3769].x, fma(_3543, _1138.x[_3736].w, fma(_3538, _1138.x[_3736].z, fma(_3533, _1138.x[_3736].y, fma(_3528, _1138.x[_3736].x, fma(_2035, _1138.x[_1437].w, fma(_2027, _1138.x[_1437].z, fma(_2019, _1138.x[_1437].y, spvFMul(_2011, _1138.x[_1437].x)))))))))))))))), acc[_1476]);
                            uint _4030 = _1476 + 1u;
                            acc[_4030] = fma(slot_weight[_1463] * _2385, fma(_3701, _1138.x[_3802].w, fma(_3696, _1138.x[_3802].z, fma(_3691, _1138.x[_3802].y, fma(_3686, _1138.x[_3802].x, fma(_3639, _1138.x[_3769].w, fma(_3634, _1138.x[_3769].z, fma(_3629, _1138.x[_3769].y, fma(_3624, _1138.x[_3769].x, fma(_3672, _1138.x[_3736].w, fma(_3667, _1138.x[_3736].z, fma(_3662, _1138.x[_3736].y, fma(_3657, _1138.x[_3736].x, fma(_3610, _1138.x[_1437].w, fma(_3605, _1138.x[_1437].z, fma(_3600, _1138.x[_1437].y, _3595 * _1138.x[_1437].x))))))))))))))), acc[_4030]);
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _2349 = 0u; _2349 < _647; )
        {
            partial[(_2349 * THREADS) + gl_LocalInvocationID.x] = param[_2349];
            _2349++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _2350 = gl_LocalInvocationID.x; _2350 < _676; _2350 += THREADS)
        {
            uint _2266 = (((_2350 / 32u) * THREADS) + ((_2350 / 8u) % 4u)) + (4u * (_2350 % 8u));
            float _2357;
            _2357 = partial[_2266];
            for (uint _2355 = 32u; _2355 < THREADS; )
            {
                _2357 = spvFAdd(_2357, partial[_2266 + _2355]);
                _2355 += 32u;
                continue;
            }
            chunk_sums[_2350] = _2357;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1514 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1519 = _762 + (gl_LocalInvocationID.x / 8u);
        bool _1522 = gl_LocalInvocationID.x >= _1521;
        bool _1531;
        if (!_1522)
        {
            _1531 = _1514 >= p.rows;
        }
        else
        {
            _1531 = _1522;
        }
        if (_1531)
        {
            break;
        }
        uint _1541 = (_1519 * p.y_stride) + _1514;
        uint _1546 = gl_LocalInvocationID.x % 8u;
        uint _2307 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1546 % 2u)) * 4u) + (_1546 / 2u)) * 8u;
        float _2703 = (((((spvFAdd(chunk_sums[_2307], chunk_sums[_2307 + 1u]) + chunk_sums[_2307 + 2u]) + chunk_sums[_2307 + 3u]) + chunk_sums[_2307 + 4u]) + chunk_sums[_2307 + 5u]) + chunk_sums[_2307 + 6u]) + chunk_sums[_2307 + 7u];
        float _2353;
        if ((p.flags & 1u) != 0u)
        {
            _2353 = spvFAdd(_2703, _1560.y[_1541]);
        }
        else
        {
            _2353 = _2703;
        }
        float _2354;
        if ((p.flags & 2u) != 0u)
        {
            _2354 = spvFAdd(_2353, _1576.residual[(_1519 * p.residual_stride) + _1514]);
        }
        else
        {
            _2354 = _2353;
        }
        _1560.y[_1541] = _2354;
        break;
    } while(false);
}

