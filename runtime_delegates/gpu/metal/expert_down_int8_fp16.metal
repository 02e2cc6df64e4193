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
constant uint _565 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _568 = (THREADS * TOKENS);
constant uint _569 = (_568 * 2u);
constant uint _594 = (64u * TOKENS);
constant uint _630 = (64u * TOKENS);
constant bool _682 = (TOKENS > 1u);

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

constant uint _743 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _861 = (1u << TOKENS);
constant uint _862 = (_861 - 1u);
constant uint _875 = (64u * TOKENS);
constant bool _966 = (TOKENS == 1u);
constant int _967 = _966 ? 8 : 4;
constant uint _968 = (uint(_967) + 0u);
constant bool _986 = (TOKENS == 1u);
constant bool _1040 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1092 = (TOKENS == 1u);
constant int _1093 = _1092 ? 8 : 4;
constant uint _1094 = (uint(_1093) + 0u);
constant bool _1099 = (TOKENS != 1u);
constant bool _1135 = (TOKENS != 1u);
constant bool _1189 = (TOKENS == 1u);
constant bool _1295 = (TOKENS == 1u);
constant int _1296 = _1295 ? 8 : 4;
constant uint _1297 = (uint(_1296) + 0u);
constant uint _1322 = (8u * TOKENS);

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
constant uint _1392 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1392, 1u, 1u);

kernel void expert_down_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _133 [[buffer(1)]], const device X& _1059 [[buffer(2)]], device Y& _1361 [[buffer(3)]], const device Route& _762 [[buffer(4)]], const device Step& _689 [[buffer(5)]], const device Residual& _1377 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_569];
    threadgroup float chunk_sums[_630];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_875];
    do
    {
        uint _681 = gl_WorkGroupID.y * TOKENS;
        bool _693;
        if (_682)
        {
            _693 = _681 >= _689.step_[0];
        }
        else
        {
            _693 = _682;
        }
        if (_693)
        {
            break;
        }
        uint _1404 = ((p.cols + 7u) / 8u) * 4u;
        uint _711 = THREADS / p.classes;
        uint _715 = gl_LocalInvocationID.x / _711;
        uint _719 = 64u / p.classes;
        uint _1412 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _735 = 16u + ((_1412 * p.classes) * 4u);
        float acc[16];
        for (uint _1990 = 0u; _1990 < _743; )
        {
            acc[_1990] = 0.0;
            _1990++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _762.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        float4 hidden[8][2];
        uint _2002;
        for (uint _1991 = 0u, _2003 = 1u; _1991 < _1404; _2003 = _2002, _1991 += _711)
        {
            _2002 = _2003;
            uint _2068;
            for (uint _2001 = 0u; _2001 < _2002; _2002 = _2068, _2001 += _719)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _2005;
                _2005 = gl_LocalInvocationID.x;
                for (; _2005 < 64u; _2005 += THREADS)
                {
                    uint _813 = ((_2005 / _719) * _1412) + min((_2001 + (_2005 % _719)), (_1412 - 1u));
                    uint _817 = 16u + (_813 * 4u);
                    uint _823 = _762.route[_817] - p.first_expert;
                    bool _832 = _823 < p.experts;
                    slot_expert[_2005] = _832 ? _823 : 0u;
                    uint _2070;
                    if (_832)
                    {
                        _2070 = (_762.route[_817 + uint((_681 < 32u) ? 1 : 2)] >> (_681 & 31u)) & _862;
                    }
                    else
                    {
                        _2070 = 0u;
                    }
                    slot_mask[_2005] = _2070;
                    for (uint _2071 = 0u; _2071 < TOKENS; )
                    {
                        slot_weight[(_2005 * TOKENS) + _2071] = as_type<float>(_762.route[((_735 + (_813 * 64u)) + _681) + _2071]);
                        _2071++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2068 = _2002;
                for (uint _2006 = 0u; _2006 < p.classes; )
                {
                    _2068 = max(_2068, counts[_2006]);
                    _2006++;
                    continue;
                }
                uint _921 = _1991 + (gl_LocalInvocationID.x % _711);
                uint _925 = _715 * _719;
                uint _2011;
                if ((_921 < _1404) && (counts[_715] > _2001))
                {
                    _2011 = min((counts[_715] - _2001), _719);
                }
                else
                {
                    _2011 = 0u;
                }
                for (uint _2012 = 0u; _2012 < _2011; _2012 += _1297)
                {
                    for (uint _2015 = 0u; _2015 < 8u; _2015++)
                    {
                        if (_2015 >= _968)
                        {
                            continue;
                        }
                        uint _977 = _2012 + _2015;
                        uint _981 = _925 + min(_977, (_2011 - 1u));
                        bool _1002;
                        if (!_986)
                        {
                            bool _994 = _977 < _2011;
                            bool _1001;
                            if (_994)
                            {
                                _1001 = slot_mask[_981] != 0u;
                            }
                            else
                            {
                                _1001 = _994;
                            }
                            _1002 = _1001;
                        }
                        else
                        {
                            _1002 = _986;
                        }
                        if (_1002)
                        {
                            uint _1017 = (p.first + (slot_expert[_981] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1977[1] = { _133.weights[_1017 + _921] };
                            spvArrayCopyFromStackToStack1(raw[_2015], _1977);
                            pair[_2015] = ((device uint*)&_133.weights[_1017 + _1404])[_921 & 3u];
                        }
                        if (_1040)
                        {
                            uint _1068 = ((p.first_expert + slot_expert[_981]) * 64u) * p.x_stride;
                            uint _1431 = (_921 >> uint(2)) * 2u;
                            hidden[_2015][0u] = _1059.x[_1068 + _1431];
                            hidden[_2015][1u] = _1059.x[_1068 + (_1431 + 1u)];
                        }
                    }
                    for (uint _2016 = 0u; _2016 < 8u; _2016++)
                    {
                        bool _1095 = _2016 >= _1094;
                        bool _1108;
                        if (!_1095)
                        {
                            bool _1107;
                            if (_1099)
                            {
                                _1107 = (_2012 + _2016) >= _2011;
                            }
                            else
                            {
                                _1107 = _1099;
                            }
                            _1108 = _1107;
                        }
                        else
                        {
                            _1108 = _1095;
                        }
                        if (_1108)
                        {
                            continue;
                        }
                        uint _1120 = _925 + min((_2012 + _2016), (_2011 - 1u));
                        uint _2023;
                        if ((_2012 + _2016) < _2011)
                        {
                            _2023 = slot_mask[_1120];
                        }
                        else
                        {
                            _2023 = 0u;
                        }
                        if (_1135 && (_2023 == 0u))
                        {
                            continue;
                        }
                        uint _1445 = raw[_2016][0].x ^ 2155905152u;
                        half2 _1452 = as_type<half2>((_1445 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _1462 = as_type<half2>(((_1445 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2309 = raw[_2016][0].y ^ 2155905152u;
                        half2 _2314 = as_type<half2>((_2309 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2322 = as_type<half2>(((_2309 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2333 = raw[_2016][0].z ^ 2155905152u;
                        half2 _2338 = as_type<half2>((_2333 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2346 = as_type<half2>(((_2333 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2357 = raw[_2016][0].w ^ 2155905152u;
                        half2 _2362 = as_type<half2>((_2357 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2370 = as_type<half2>(((_2357 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _1472 = pair[_2016] & 65535u;
                        uint _1487 = _1472 & 32767u;
                        uint _1489 = _1487 << uint(13);
                        float _1504 = (_1487 < 1024u) ? (as_type<float>(947912704u | _1489) - 6.103515625e-05) : as_type<float>(_1489 + ((_1487 < 31744u) ? 939524096u : 1879048192u));
                        float _2027;
                        if ((_1472 & 32768u) != 0u)
                        {
                            _2027 = -_1504;
                        }
                        else
                        {
                            _2027 = _1504;
                        }
                        uint _1476 = pair[_2016] >> uint(16);
                        uint _1523 = _1476 & 32767u;
                        uint _1525 = _1523 << uint(13);
                        float _1540 = (_1523 < 1024u) ? (as_type<float>(947912704u | _1525) - 6.103515625e-05) : as_type<float>(_1525 + ((_1523 < 31744u) ? 939524096u : 1879048192u));
                        float _2028;
                        if ((_1476 & 32768u) != 0u)
                        {
                            _2028 = -_1540;
                        }
                        else
                        {
                            _2028 = _1540;
                        }
                        uint _1170 = (((p.first_expert + slot_expert[_1120]) * 64u) + _681) * p.x_stride;
                        for (uint _2029 = 0u; _2029 < TOKENS; _2029++)
                        {
                            float4 _2058;
                            if (_1189)
                            {
                                _2058 = hidden[_2016][0u];
                            }
                            else
                            {
                                _2058 = _1059.x[(_1170 + (_2029 * p.x_stride)) + ((_921 >> uint(2)) * 2u)];
                            }
                            float4 _2394;
                            if (_1189)
                            {
                                _2394 = hidden[_2016][1u];
                            }
                            else
                            {
                                _2394 = _1059.x[(_1170 + (_2029 * p.x_stride)) + (((_921 >> uint(2)) * 2u) + 1u)];
                            }
                            bool _1221 = ((_2023 >> _2029) & 1u) != 0u;
                            half2 _1586 = half2(_2058.xz);
                            half2 _1595 = half2(_2058.yw);
                            half2 _2407 = half2(_2394.xz);
                            half2 _2414 = half2(_2394.yw);
                            half2 _2439 = max(max(max(abs(_1586), abs(_1595)), abs(_2407)), abs(_2414));
                            half _1623 = max(_2439.x, _2439.y);
                            half2 _2471 = fma(_2322, _2414, fma(_2314, _2407, fma(_1462, _1595, spvFMul(_1452, _1586))));
                            half2 _2525 = fma(_2370, _2414, fma(_2362, _2407, fma(_2346, _1595, _2338 * _1586)));
                            float _2879;
                            float _2880;
                            if (_1221 && (!((_1623 >= half(0.03125)) && (_1623 <= half(64.0)))))
                            {
                                uint _1720 = raw[_2016][0].x ^ 2155905152u;
                                uint _2544 = raw[_2016][0].y ^ 2155905152u;
                                uint _2574 = raw[_2016][0].z ^ 2155905152u;
                                uint _2604 = raw[_2016][0].w ^ 2155905152u;
                                _2880 = fma(as_type<float>((_2544 >> uint(24)) | 1258291200u) - 8388736.0, _2394.w, fma(as_type<float>(((_2544 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _2394.z, fma(as_type<float>(((_2544 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _2394.y, fma(as_type<float>((_2544 & 255u) | 1258291200u) - 8388736.0, _2394.x, fma(as_type<float>((_1720 >> uint(24)) | 1258291200u) - 8388736.0, _2058.w, fma(as_type<float>(((_1720 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _2058.z, fma(as_type<float>(((_1720 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _2058.y, spvFMul(as_type<float>((_1720 & 255u) | 1258291200u) - 8388736.0, _2058.x))))))));
                                _2879 = fma(as_type<float>((_2604 >> uint(24)) | 1258291200u) - 8388736.0, _2394.w, fma(as_type<float>(((_2604 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _2394.z, fma(as_type<float>(((_2604 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _2394.y, fma(as_type<float>((_2604 & 255u) | 1258291200u) - 8388736.0, _2394.x, fma(as_type<float>((_2574 >> uint(24)) | 1258291200u) - 8388736.0, _2058.w, fma(as_type<float>(((_2574 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _2058.z, fma(as_type<float>(((_2574 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _2058.y, (as_type<float>((_2574 & 255u) | 1258291200u) - 8388736.0) * _2058.x)))))));
                            }
                            else
                            {
                                _2880 = spvFAdd(float(_2471.x), float(_2471.y));
                                _2879 = float(_2525.x) + float(_2525.y);
                            }
                            uint _1238 = (_1120 * TOKENS) + _2029;
                            uint _1261 = _2029 * 2u;
                            float _2050;
                            if (_1221)
                            {
                                _2050 = fma(spvFMul(slot_weight[_1238], _2027), _2880, acc[_1261]);
                            }
                            else
                            {
                                _2050 = acc[_1261];
                            }
                            acc[_1261] = _2050;
                            uint _2705 = _1261 + 1u;
                            float _2721;
                            if (_1221)
                            {
                                _2721 = fma(slot_weight[_1238] * _2028, _2879, acc[_2705]);
                            }
                            else
                            {
                                _2721 = acc[_2705];
                            }
                            acc[_2705] = _2721;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1992 = 0u; _1992 < _565; )
        {
            partial[(_1992 * THREADS) + gl_LocalInvocationID.x] = param[_1992];
            _1992++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1993 = gl_LocalInvocationID.x; _1993 < _594; _1993 += THREADS)
        {
            uint _1910 = (((_1993 / 32u) * THREADS) + ((_1993 / 8u) % 4u)) + (4u * (_1993 % 8u));
            float _2000;
            _2000 = partial[_1910];
            for (uint _1998 = 32u; _1998 < THREADS; )
            {
                _2000 = spvFAdd(_2000, partial[_1910 + _1998]);
                _1998 += 32u;
                continue;
            }
            chunk_sums[_1993] = _2000;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1315 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1320 = _681 + (gl_LocalInvocationID.x / 8u);
        bool _1323 = gl_LocalInvocationID.x >= _1322;
        bool _1332;
        if (!_1323)
        {
            _1332 = _1315 >= p.rows;
        }
        else
        {
            _1332 = _1323;
        }
        if (_1332)
        {
            break;
        }
        uint _1342 = (_1320 * p.y_stride) + _1315;
        uint _1347 = gl_LocalInvocationID.x % 8u;
        uint _1951 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1347 % 2u)) * 4u) + (_1347 / 2u)) * 8u;
        float _2278 = (((((spvFAdd(chunk_sums[_1951], chunk_sums[_1951 + 1u]) + chunk_sums[_1951 + 2u]) + chunk_sums[_1951 + 3u]) + chunk_sums[_1951 + 4u]) + chunk_sums[_1951 + 5u]) + chunk_sums[_1951 + 6u]) + chunk_sums[_1951 + 7u];
        float _1996;
        if ((p.flags & 1u) != 0u)
        {
            _1996 = spvFAdd(_2278, _1361.y[_1342]);
        }
        else
        {
            _1996 = _2278;
        }
        float _1997;
        if ((p.flags & 2u) != 0u)
        {
            _1997 = spvFAdd(_1996, _1377.residual[(_1320 * p.residual_stride) + _1315]);
        }
        else
        {
            _1997 = _1996;
        }
        _1361.y[_1342] = _1997;
        break;
    } while(false);
}

