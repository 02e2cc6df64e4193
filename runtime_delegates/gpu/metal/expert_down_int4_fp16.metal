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
constant uint _648 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _651 = (THREADS * TOKENS);
constant uint _652 = (_651 * 2u);
constant uint _677 = (64u * TOKENS);
constant uint _712 = (64u * TOKENS);
constant bool _764 = (TOKENS > 1u);

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

constant uint _825 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _940 = (1u << TOKENS);
constant uint _941 = (_940 - 1u);
constant uint _954 = (64u * TOKENS);
constant bool _1045 = (TOKENS == 1u);
constant int _1046 = _1045 ? 4 : 4;
constant uint _1047 = (uint(_1046) + 0u);
constant bool _1065 = (TOKENS == 1u);
constant bool _1120 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1172 = (TOKENS == 1u);
constant int _1173 = _1172 ? 4 : 4;
constant uint _1174 = (uint(_1173) + 0u);
constant bool _1179 = (TOKENS != 1u);
constant bool _1215 = (TOKENS != 1u);
constant bool _1269 = (TOKENS == 1u);
constant bool _1375 = (TOKENS == 1u);
constant int _1376 = _1375 ? 4 : 4;
constant uint _1377 = (uint(_1376) + 0u);
constant uint _1402 = (8u * TOKENS);

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
constant uint _1472 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1472, 1u, 1u);

kernel void expert_down_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _133 [[buffer(1)]], const device X& _1139 [[buffer(2)]], device Y& _1441 [[buffer(3)]], const device Route& _844 [[buffer(4)]], const device Step& _771 [[buffer(5)]], const device Residual& _1457 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_652];
    threadgroup float chunk_sums[_712];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_954];
    do
    {
        uint _763 = gl_WorkGroupID.y * TOKENS;
        bool _775;
        if (_764)
        {
            _775 = _763 >= _771.step_[0];
        }
        else
        {
            _775 = _764;
        }
        if (_775)
        {
            break;
        }
        uint _1484 = ((p.cols + 31u) / 32u) * 8u;
        uint _793 = THREADS / p.classes;
        uint _797 = gl_LocalInvocationID.x / _793;
        uint _801 = 64u / p.classes;
        uint _1492 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _817 = 16u + ((_1492 * p.classes) * 4u);
        float acc[16];
        for (uint _2215 = 0u; _2215 < _825; )
        {
            acc[_2215] = 0.0;
            _2215++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _844.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][1];
        uint pair[4];
        float4 hidden[4][4];
        uint _2227;
        for (uint _2216 = 0u, _2228 = 1u; _2216 < _1484; _2228 = _2227, _2216 += _793)
        {
            _2227 = _2228;
            uint _2300;
            for (uint _2226 = 0u; _2226 < _2227; _2227 = _2300, _2226 += _801)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _2230;
                _2230 = gl_LocalInvocationID.x;
                for (; _2230 < 64u; _2230 += THREADS)
                {
                    uint _895 = ((_2230 / _801) * _1492) + min((_2226 + (_2230 % _801)), (_1492 - 1u));
                    uint _899 = 16u + (_895 * 4u);
                    uint _904 = _844.route[_899] - p.first_expert;
                    bool _912 = _904 < p.experts;
                    slot_expert[_2230] = _912 ? _904 : 0u;
                    uint _2302;
                    if (_912)
                    {
                        _2302 = (_844.route[_899 + uint((_763 < 32u) ? 1 : 2)] >> (_763 & 31u)) & _941;
                    }
                    else
                    {
                        _2302 = 0u;
                    }
                    slot_mask[_2230] = _2302;
                    for (uint _2303 = 0u; _2303 < TOKENS; )
                    {
                        slot_weight[(_2230 * TOKENS) + _2303] = as_type<float>(_844.route[((_817 + (_895 * 64u)) + _763) + _2303]);
                        _2303++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2300 = _2227;
                for (uint _2231 = 0u; _2231 < p.classes; )
                {
                    _2300 = max(_2300, counts[_2231]);
                    _2231++;
                    continue;
                }
                uint _1000 = _2216 + (gl_LocalInvocationID.x % _793);
                uint _1004 = _797 * _801;
                uint _2236;
                if ((_1000 < _1484) && (counts[_797] > _2226))
                {
                    _2236 = min((counts[_797] - _2226), _801);
                }
                else
                {
                    _2236 = 0u;
                }
                for (uint _2237 = 0u; _2237 < _2236; _2237 += _1377)
                {
                    for (uint _2240 = 0u; _2240 < 4u; _2240++)
                    {
                        if (_2240 >= _1047)
                        {
                            continue;
                        }
                        uint _1056 = _2237 + _2240;
                        uint _1060 = _1004 + min(_1056, (_2236 - 1u));
                        bool _1081;
                        if (!_1065)
                        {
                            bool _1073 = _1056 < _2236;
                            bool _1080;
                            if (_1073)
                            {
                                _1080 = slot_mask[_1060] != 0u;
                            }
                            else
                            {
                                _1080 = _1073;
                            }
                            _1081 = _1080;
                        }
                        else
                        {
                            _1081 = _1065;
                        }
                        if (_1081)
                        {
                            uint _1096 = (p.first + (slot_expert[_1060] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2202[1] = { _133.weights[_1096 + _1000] };
                            spvArrayCopyFromStackToStack1(raw[_2240], _2202);
                            pair[_2240] = ((device uint*)&_133.weights[(_1096 + _1484) + (_1000 >> uint(3))])[_1000 & 3u];
                        }
                        if (_1120)
                        {
                            uint _1148 = ((p.first_expert + slot_expert[_1060]) * 64u) * p.x_stride;
                            uint _1519 = ((_1000 >> uint(3)) * 8u) + (((_1000 >> uint(2)) & 1u) * 2u);
                            hidden[_2240][0u] = _1139.x[_1148 + _1519];
                            hidden[_2240][1u] = _1139.x[_1148 + (_1519 + 1u)];
                            hidden[_2240][2u] = _1139.x[_1148 + (_1519 + 4u)];
                            hidden[_2240][3u] = _1139.x[_1148 + (_1519 + 5u)];
                        }
                    }
                    for (uint _2241 = 0u; _2241 < 4u; _2241++)
                    {
                        bool _1175 = _2241 >= _1174;
                        bool _1188;
                        if (!_1175)
                        {
                            bool _1187;
                            if (_1179)
                            {
                                _1187 = (_2237 + _2241) >= _2236;
                            }
                            else
                            {
                                _1187 = _1179;
                            }
                            _1188 = _1187;
                        }
                        else
                        {
                            _1188 = _1175;
                        }
                        if (_1188)
                        {
                            continue;
                        }
                        uint _1200 = _1004 + min((_2237 + _2241), (_2236 - 1u));
                        uint _2248;
                        if ((_2237 + _2241) < _2236)
                        {
                            _2248 = slot_mask[_1200];
                        }
                        else
                        {
                            _2248 = 0u;
                        }
                        if (_1215 && (_2248 == 0u))
                        {
                            continue;
                        }
                        uint _1555 = raw[_2241][0].x >> 0u;
                        half2 _1567 = as_type<half2>((_1555 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _1581 = fma(as_type<half2>((_1555 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2626 = raw[_2241][0].x >> 8u;
                        half2 _2634 = as_type<half2>((_2626 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2644 = fma(as_type<half2>((_2626 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2663 = raw[_2241][0].y >> 0u;
                        half2 _2671 = as_type<half2>((_2663 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2681 = fma(as_type<half2>((_2663 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2694 = raw[_2241][0].y >> 8u;
                        half2 _2702 = as_type<half2>((_2694 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2712 = fma(as_type<half2>((_2694 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2737 = raw[_2241][0].z >> 0u;
                        half2 _2745 = as_type<half2>((_2737 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2755 = fma(as_type<half2>((_2737 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2768 = raw[_2241][0].z >> 8u;
                        half2 _2776 = as_type<half2>((_2768 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2786 = fma(as_type<half2>((_2768 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2806 = raw[_2241][0].w >> 0u;
                        half2 _2814 = as_type<half2>((_2806 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2824 = fma(as_type<half2>((_2806 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _2837 = raw[_2241][0].w >> 8u;
                        half2 _2845 = as_type<half2>((_2837 & 983055u) | 1677747200u) - half2(half(1032.0));
                        half2 _2855 = fma(as_type<half2>((_2837 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                        uint _1599 = pair[_2241] & 65535u;
                        uint _1614 = _1599 & 32767u;
                        uint _1616 = _1614 << uint(13);
                        float _1631 = (_1614 < 1024u) ? (as_type<float>(947912704u | _1616) - 6.103515625e-05) : as_type<float>(_1616 + ((_1614 < 31744u) ? 939524096u : 1879048192u));
                        float _2252;
                        if ((_1599 & 32768u) != 0u)
                        {
                            _2252 = -_1631;
                        }
                        else
                        {
                            _2252 = _1631;
                        }
                        uint _1603 = pair[_2241] >> uint(16);
                        uint _1650 = _1603 & 32767u;
                        uint _1652 = _1650 << uint(13);
                        float _1667 = (_1650 < 1024u) ? (as_type<float>(947912704u | _1652) - 6.103515625e-05) : as_type<float>(_1652 + ((_1650 < 31744u) ? 939524096u : 1879048192u));
                        float _2253;
                        if ((_1603 & 32768u) != 0u)
                        {
                            _2253 = -_1667;
                        }
                        else
                        {
                            _2253 = _1667;
                        }
                        uint _1250 = (((p.first_expert + slot_expert[_1200]) * 64u) + _763) * p.x_stride;
                        for (uint _2254 = 0u; _2254 < TOKENS; _2254++)
                        {
                            float4 _2285;
                            if (_1269)
                            {
                                _2285 = hidden[_2241][0u];
                            }
                            else
                            {
                                _2285 = _1139.x[(_1250 + (_2254 * p.x_stride)) + (((_1000 >> uint(3)) * 8u) + (((_1000 >> uint(2)) & 1u) * 2u))];
                            }
                            float4 _2893;
                            if (_1269)
                            {
                                _2893 = hidden[_2241][1u];
                            }
                            else
                            {
                                _2893 = _1139.x[(_1250 + (_2254 * p.x_stride)) + ((((_1000 >> uint(3)) * 8u) + (((_1000 >> uint(2)) & 1u) * 2u)) + 1u)];
                            }
                            float4 _2925;
                            if (_1269)
                            {
                                _2925 = hidden[_2241][2u];
                            }
                            else
                            {
                                _2925 = _1139.x[(_1250 + (_2254 * p.x_stride)) + ((((_1000 >> uint(3)) * 8u) + (((_1000 >> uint(2)) & 1u) * 2u)) + 4u)];
                            }
                            float4 _2957;
                            if (_1269)
                            {
                                _2957 = hidden[_2241][3u];
                            }
                            else
                            {
                                _2957 = _1139.x[(_1250 + (_2254 * p.x_stride)) + ((((_1000 >> uint(3)) * 8u) + (((_1000 >> uint(2)) & 1u) * 2u)) + 5u)];
                            }
                            bool _1301 = ((_2248 >> _2254) & 1u) != 0u;
                            half2 _1723 = half2(_2285.xz);
                            half2 _1732 = half2(_2285.yw);
                            half2 _2970 = half2(_2893.xz);
                            half2 _2977 = half2(_2893.yw);
                            half2 _2990 = half2(_2925.xz);
                            half2 _2997 = half2(_2925.yw);
                            half2 _3010 = half2(_2957.xz);
                            half2 _3017 = half2(_2957.yw);
                            half2 _3090 = max(max(max(max(max(max(max(abs(_1723), abs(_1732)), abs(_2970)), abs(_2977)), abs(_2990)), abs(_2997)), abs(_3010)), abs(_3017));
                            half _1760 = max(_3090.x, _3090.y);
                            half2 _3186 = fma(_2712, _3017, fma(_2681, _3010, fma(_2644, _2997, fma(_1581, _2990, fma(_2702, _2977, fma(_2671, _2970, fma(_2634, _1732, spvFMul(_1567, _1723))))))));
                            half2 _3296 = fma(_2855, _3017, fma(_2824, _3010, fma(_2786, _2997, fma(_2755, _2990, fma(_2845, _2977, fma(_2814, _2970, fma(_2776, _1732, _2745 * _1723)))))));
                            float _4030;
                            float _4031;
                            if (_1301 && (!((_1760 >= half(0.03125)) && (_1760 <= half(512.0)))))
                            {
                                uint _1865 = raw[_2241][0].x >> uint(4);
                                uint _3347 = raw[_2241][0].y >> uint(4);
                                uint _3414 = raw[_2241][0].z >> uint(4);
                                uint _3476 = raw[_2241][0].w >> uint(4);
                                float _3522 = fma(as_type<float>(((_1865 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2925.y, fma(as_type<float>((_1865 & 15u) | 1258291200u) - 8388616.0, _2925.x, fma(as_type<float>(((raw[_2241][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2893.w, fma(as_type<float>(((raw[_2241][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2893.z, fma(as_type<float>(((raw[_2241][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2893.y, fma(as_type<float>((raw[_2241][0].y & 15u) | 1258291200u) - 8388616.0, _2893.x, fma(as_type<float>(((raw[_2241][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2285.w, fma(as_type<float>(((raw[_2241][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2285.z, fma(as_type<float>(((raw[_2241][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2285.y, spvFMul(as_type<float>((raw[_2241][0].x & 15u) | 1258291200u) - 8388616.0, _2285.x))))))))));
                                float _3655 = fma(as_type<float>(((_3414 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2925.y, fma(as_type<float>((_3414 & 15u) | 1258291200u) - 8388616.0, _2925.x, fma(as_type<float>(((raw[_2241][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2893.w, fma(as_type<float>(((raw[_2241][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2893.z, fma(as_type<float>(((raw[_2241][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2893.y, fma(as_type<float>((raw[_2241][0].w & 15u) | 1258291200u) - 8388616.0, _2893.x, fma(as_type<float>(((raw[_2241][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2285.w, fma(as_type<float>(((raw[_2241][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2285.z, fma(as_type<float>(((raw[_2241][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2285.y, (as_type<float>((raw[_2241][0].z & 15u) | 1258291200u) - 8388616.0) * _2285.x)))))))));
                                _4031 = fma(as_type<float>(((_3347 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2957.w, fma(as_type<float>(((_3347 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2957.z, fma(as_type<float>(((_3347 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2957.y, fma(as_type<float>((_3347 & 15u) | 1258291200u) - 8388616.0, _2957.x, fma(as_type<float>(((_1865 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2925.w, fma(as_type<float>(((_1865 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2925.z, _3522))))));
                                _4030 = fma(as_type<float>(((_3476 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2957.w, fma(as_type<float>(((_3476 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2957.z, fma(as_type<float>(((_3476 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _2957.y, fma(as_type<float>((_3476 & 15u) | 1258291200u) - 8388616.0, _2957.x, fma(as_type<float>(((_3414 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _2925.w, fma(as_type<float>(((_3414 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _2925.z, _3655))))));
                            }
                            else
                            {
                                _4031 = spvFAdd(float(_3186.x), float(_3186.y));
                                _4030 = float(_3296.x) + float(_3296.y);
                            }
                            uint _1318 = (_1200 * TOKENS) + _2254;
                            uint _1341 = _2254 * 2u;
                            float _2275;
                            if (_1301)
                            {
                                _2275 = fma(spvFMul(slot_weight[_1318], _2252), _4031, acc[_1341]);
                            }
                            else
                            {
                                _2275 = acc[_1341];
                            }
                            acc[_1341] = _2275;
                            uint _3721 = _1341 + 1u;
                            float _3737;
                            if (_1301)
                            {
                                _3737 = fma(slot_weight[_1318] * _2253, _4030, acc[_3721]);
                            }
                            else
                            {
                                _3737 = acc[_3721];
                            }
                            acc[_3721] = _3737;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _2217 = 0u; _2217 < _648; )
        {
            partial[(_2217 * THREADS) + gl_LocalInvocationID.x] = param[_2217];
            _2217++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _2218 = gl_LocalInvocationID.x; _2218 < _677; _2218 += THREADS)
        {
            uint _2134 = (((_2218 / 32u) * THREADS) + ((_2218 / 8u) % 4u)) + (4u * (_2218 % 8u));
            float _2225;
            _2225 = partial[_2134];
            for (uint _2223 = 32u; _2223 < THREADS; )
            {
                _2225 = spvFAdd(_2225, partial[_2134 + _2223]);
                _2223 += 32u;
                continue;
            }
            chunk_sums[_2218] = _2225;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1395 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1400 = _763 + (gl_LocalInvocationID.x / 8u);
        bool _1403 = gl_LocalInvocationID.x >= _1402;
        bool _1412;
        if (!_1403)
        {
            _1412 = _1395 >= p.rows;
        }
        else
        {
            _1412 = _1403;
        }
        if (_1412)
        {
            break;
        }
        uint _1422 = (_1400 * p.y_stride) + _1395;
        uint _1427 = gl_LocalInvocationID.x % 8u;
        uint _2175 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1427 % 2u)) * 4u) + (_1427 / 2u)) * 8u;
        float _2526 = (((((spvFAdd(chunk_sums[_2175], chunk_sums[_2175 + 1u]) + chunk_sums[_2175 + 2u]) + chunk_sums[_2175 + 3u]) + chunk_sums[_2175 + 4u]) + chunk_sums[_2175 + 5u]) + chunk_sums[_2175 + 6u]) + chunk_sums[_2175 + 7u];
        float _2221;
        if ((p.flags & 1u) != 0u)
        {
            _2221 = spvFAdd(_2526, _1441.y[_1422]);
        }
        else
        {
            _2221 = _2526;
        }
        float _2222;
        if ((p.flags & 2u) != 0u)
        {
            _2222 = spvFAdd(_2221, _1457.residual[(_1400 * p.residual_stride) + _1395]);
        }
        else
        {
            _2222 = _2221;
        }
        _1441.y[_1422] = _2222;
        break;
    } while(false);
}

