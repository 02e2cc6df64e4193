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
constant uint _432 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _435 = (THREADS * TOKENS);
constant uint _436 = (_435 * 2u);
constant uint _461 = (64u * TOKENS);
constant uint _496 = (64u * TOKENS);
constant bool _548 = (TOKENS > 1u);

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

constant uint _609 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _724 = (1u << TOKENS);
constant uint _725 = (_724 - 1u);
constant uint _738 = (64u * TOKENS);
constant bool _829 = (TOKENS == 1u);
constant int _830 = _829 ? 4 : 4;
constant uint _831 = (uint(_830) + 0u);
constant bool _849 = (TOKENS == 1u);
constant bool _904 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _956 = (TOKENS == 1u);
constant int _957 = _956 ? 4 : 4;
constant uint _958 = (uint(_957) + 0u);
constant bool _963 = (TOKENS != 1u);
constant bool _999 = (TOKENS != 1u);
constant bool _1054 = (TOKENS == 1u);
constant bool _1169 = (TOKENS == 1u);
constant int _1170 = _1169 ? 4 : 4;
constant uint _1171 = (uint(_1170) + 0u);
constant uint _1196 = (8u * TOKENS);

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
constant uint _1266 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1266, 1u, 1u);

kernel void expert_down_int4(constant Push& p [[buffer(0)]], const device Weights& _121 [[buffer(1)]], const device X& _923 [[buffer(2)]], device Y& _1235 [[buffer(3)]], const device Route& _628 [[buffer(4)]], const device Step& _555 [[buffer(5)]], const device Residual& _1251 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_436];
    threadgroup float chunk_sums[_496];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_738];
    do
    {
        uint _547 = gl_WorkGroupID.y * TOKENS;
        bool _559;
        if (_548)
        {
            _559 = _547 >= _555.step_[0];
        }
        else
        {
            _559 = _548;
        }
        if (_559)
        {
            break;
        }
        uint _1277 = ((p.cols + 31u) / 32u) * 8u;
        uint _577 = THREADS / p.classes;
        uint _581 = gl_LocalInvocationID.x / _577;
        uint _585 = 64u / p.classes;
        uint _1285 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _601 = 16u + ((_1285 * p.classes) * 4u);
        float acc[16];
        for (uint _1810 = 0u; _1810 < _609; )
        {
            acc[_1810] = 0.0;
            _1810++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _628.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][1];
        uint pair[4];
        float4 hidden[4][4];
        uint _1822;
        for (uint _1811 = 0u, _1823 = 1u; _1811 < _1277; _1823 = _1822, _1811 += _577)
        {
            _1822 = _1823;
            uint _1881;
            for (uint _1821 = 0u; _1821 < _1822; _1822 = _1881, _1821 += _585)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1825;
                _1825 = gl_LocalInvocationID.x;
                for (; _1825 < 64u; _1825 += THREADS)
                {
                    uint _679 = ((_1825 / _585) * _1285) + min((_1821 + (_1825 % _585)), (_1285 - 1u));
                    uint _683 = 16u + (_679 * 4u);
                    uint _688 = _628.route[_683] - p.first_expert;
                    bool _696 = _688 < p.experts;
                    slot_expert[_1825] = _696 ? _688 : 0u;
                    uint _1883;
                    if (_696)
                    {
                        _1883 = (_628.route[_683 + uint((_547 < 32u) ? 1 : 2)] >> (_547 & 31u)) & _725;
                    }
                    else
                    {
                        _1883 = 0u;
                    }
                    slot_mask[_1825] = _1883;
                    for (uint _1884 = 0u; _1884 < TOKENS; )
                    {
                        slot_weight[(_1825 * TOKENS) + _1884] = as_type<float>(_628.route[((_601 + (_679 * 64u)) + _547) + _1884]);
                        _1884++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1881 = _1822;
                for (uint _1826 = 0u; _1826 < p.classes; )
                {
                    _1881 = max(_1881, counts[_1826]);
                    _1826++;
                    continue;
                }
                uint _784 = _1811 + (gl_LocalInvocationID.x % _577);
                uint _788 = _581 * _585;
                uint _1831;
                if ((_784 < _1277) && (counts[_581] > _1821))
                {
                    _1831 = min((counts[_581] - _1821), _585);
                }
                else
                {
                    _1831 = 0u;
                }
                for (uint _1832 = 0u; _1832 < _1831; _1832 += _1171)
                {
                    for (uint _1835 = 0u; _1835 < 4u; _1835++)
                    {
                        if (_1835 >= _831)
                        {
                            continue;
                        }
                        uint _840 = _1832 + _1835;
                        uint _844 = _788 + min(_840, (_1831 - 1u));
                        bool _865;
                        if (!_849)
                        {
                            bool _857 = _840 < _1831;
                            bool _864;
                            if (_857)
                            {
                                _864 = slot_mask[_844] != 0u;
                            }
                            else
                            {
                                _864 = _857;
                            }
                            _865 = _864;
                        }
                        else
                        {
                            _865 = _849;
                        }
                        if (_865)
                        {
                            uint _880 = (p.first + (slot_expert[_844] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1800[1] = { _121.weights[_880 + _784] };
                            spvArrayCopyFromStackToStack1(raw[_1835], _1800);
                            pair[_1835] = ((device uint*)&_121.weights[(_880 + _1277) + (_784 >> uint(3))])[_784 & 3u];
                        }
                        if (_904)
                        {
                            uint _932 = ((p.first_expert + slot_expert[_844]) * 64u) * p.x_stride;
                            uint _1312 = ((_784 >> uint(3)) * 8u) + (((_784 >> uint(2)) & 1u) * 2u);
                            hidden[_1835][0u] = _923.x[_932 + _1312];
                            hidden[_1835][1u] = _923.x[_932 + (_1312 + 1u)];
                            hidden[_1835][2u] = _923.x[_932 + (_1312 + 4u)];
                            hidden[_1835][3u] = _923.x[_932 + (_1312 + 5u)];
                        }
                    }
                    for (uint _1836 = 0u; _1836 < 4u; _1836++)
                    {
                        bool _959 = _1836 >= _958;
                        bool _972;
                        if (!_959)
                        {
                            bool _971;
                            if (_963)
                            {
                                _971 = (_1832 + _1836) >= _1831;
                            }
                            else
                            {
                                _971 = _963;
                            }
                            _972 = _971;
                        }
                        else
                        {
                            _972 = _959;
                        }
                        if (_972)
                        {
                            continue;
                        }
                        uint _984 = _788 + min((_1832 + _1836), (_1831 - 1u));
                        uint _1843;
                        if ((_1832 + _1836) < _1831)
                        {
                            _1843 = slot_mask[_984];
                        }
                        else
                        {
                            _1843 = 0u;
                        }
                        if (_999 && (_1843 == 0u))
                        {
                            continue;
                        }
                        float _1402 = as_type<float>((raw[_1836][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _1410 = as_type<float>(((raw[_1836][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1418 = as_type<float>(((raw[_1836][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1426 = as_type<float>(((raw[_1836][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1358 = raw[_1836][0].x >> uint(4);
                        float _1460 = as_type<float>((_1358 & 15u) | 1258291200u) - 8388616.0;
                        float _1468 = as_type<float>(((_1358 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1476 = as_type<float>(((_1358 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1484 = as_type<float>(((_1358 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2164 = as_type<float>((raw[_1836][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _2169 = as_type<float>(((raw[_1836][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2174 = as_type<float>(((raw[_1836][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2179 = as_type<float>(((raw[_1836][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2189 = raw[_1836][0].y >> uint(4);
                        float _2193 = as_type<float>((_2189 & 15u) | 1258291200u) - 8388616.0;
                        float _2198 = as_type<float>(((_2189 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2203 = as_type<float>(((_2189 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2208 = as_type<float>(((_2189 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2231 = as_type<float>((raw[_1836][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _2236 = as_type<float>(((raw[_1836][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2241 = as_type<float>(((raw[_1836][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2246 = as_type<float>(((raw[_1836][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2256 = raw[_1836][0].z >> uint(4);
                        float _2260 = as_type<float>((_2256 & 15u) | 1258291200u) - 8388616.0;
                        float _2265 = as_type<float>(((_2256 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2270 = as_type<float>(((_2256 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2275 = as_type<float>(((_2256 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2293 = as_type<float>((raw[_1836][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _2298 = as_type<float>(((raw[_1836][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2303 = as_type<float>(((raw[_1836][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2308 = as_type<float>(((raw[_1836][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2318 = raw[_1836][0].w >> uint(4);
                        float _2322 = as_type<float>((_2318 & 15u) | 1258291200u) - 8388616.0;
                        float _2327 = as_type<float>(((_2318 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2332 = as_type<float>(((_2318 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2337 = as_type<float>(((_2318 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1489 = pair[_1836] & 65535u;
                        uint _1504 = _1489 & 32767u;
                        uint _1506 = _1504 << uint(13);
                        float _1521 = (_1504 < 1024u) ? (as_type<float>(947912704u | _1506) - 6.103515625e-05) : as_type<float>(_1506 + ((_1504 < 31744u) ? 939524096u : 1879048192u));
                        float _1847;
                        if ((_1489 & 32768u) != 0u)
                        {
                            _1847 = -_1521;
                        }
                        else
                        {
                            _1847 = _1521;
                        }
                        uint _1493 = pair[_1836] >> uint(16);
                        uint _1540 = _1493 & 32767u;
                        uint _1542 = _1540 << uint(13);
                        float _1557 = (_1540 < 1024u) ? (as_type<float>(947912704u | _1542) - 6.103515625e-05) : as_type<float>(_1542 + ((_1540 < 31744u) ? 939524096u : 1879048192u));
                        float _1848;
                        if ((_1493 & 32768u) != 0u)
                        {
                            _1848 = -_1557;
                        }
                        else
                        {
                            _1848 = _1557;
                        }
                        uint _1035 = (((p.first_expert + slot_expert[_984]) * 64u) + _547) * p.x_stride;
                        for (uint _1849 = 0u; _1849 < TOKENS; _1849++)
                        {
                            float4 _1869;
                            if (_1054)
                            {
                                _1869 = hidden[_1836][0u];
                            }
                            else
                            {
                                _1869 = _923.x[(_1035 + (_1849 * p.x_stride)) + (((_784 >> uint(3)) * 8u) + (((_784 >> uint(2)) & 1u) * 2u))];
                            }
                            float4 _2373;
                            if (_1054)
                            {
                                _2373 = hidden[_1836][1u];
                            }
                            else
                            {
                                _2373 = _923.x[(_1035 + (_1849 * p.x_stride)) + ((((_784 >> uint(3)) * 8u) + (((_784 >> uint(2)) & 1u) * 2u)) + 1u)];
                            }
                            float4 _2405;
                            if (_1054)
                            {
                                _2405 = hidden[_1836][2u];
                            }
                            else
                            {
                                _2405 = _923.x[(_1035 + (_1849 * p.x_stride)) + ((((_784 >> uint(3)) * 8u) + (((_784 >> uint(2)) & 1u) * 2u)) + 4u)];
                            }
                            float4 _2437;
                            if (_1054)
                            {
                                _2437 = hidden[_1836][3u];
                            }
                            else
                            {
                                _2437 = _923.x[(_1035 + (_1849 * p.x_stride)) + ((((_784 >> uint(3)) * 8u) + (((_784 >> uint(2)) & 1u) * 2u)) + 5u)];
                            }
                            uint _1114 = (_984 * TOKENS) + _1849;
                            uint _1137 = _1849 * 2u;
                            bool _1149 = (((_1843 >> _1849) & 1u) != 0u) && true;
                            float _1856;
                            if (_1149)
                            {
                                _1856 = fma(spvFMul(slot_weight[_1114], _1847), fma(_2208, _2437.w, fma(_2203, _2437.z, fma(_2198, _2437.y, fma(_2193, _2437.x, fma(_1484, _2405.w, fma(_1476, _2405.z, fma(_1468, _2405.y, fma(_1460, _2405.x, fma(_2179, _2373.w, fma(_2174, _2373.z, fma(_2169, _2373.y, fma(_2164, _2373.x, fma(_1426, _1869.w, fma(_1418, _1869.z, fma(_1410, _1869.y, spvFMul(_1402, _1869.x)))))))))))))))), acc[_1137]);
                            }
                            else
                            {
                                _1856 = acc[_1137];
                            }
                            acc[_1137] = _1856;
                            uint _2659 = _1137 + 1u;
                            float _2673;
                            if (_1149)
                            {
                                _2673 = fma(slot_weight[_1114] * _1848, fma(_2337, _2437.w, fma(_2332, _2437.z, fma(_2327, _2437.y, fma(_2322, _2437.x, fma(_2275, _2405.w, fma(_2270, _2405.z, fma(_2265, _2405.y, fma(_2260, _2405.x, fma(_2308, _2373.w, fma(_2303, _2373.z, fma(_2298, _2373.y, fma(_2293, _2373.x, fma(_2246, _1869.w, fma(_2241, _1869.z, fma(_2236, _1869.y, _2231 * _1869.x))))))))))))))), acc[_2659]);
                            }
                            else
                            {
                                _2673 = acc[_2659];
                            }
                            acc[_2659] = _2673;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1812 = 0u; _1812 < _432; )
        {
            partial[(_1812 * THREADS) + gl_LocalInvocationID.x] = param[_1812];
            _1812++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1813 = gl_LocalInvocationID.x; _1813 < _461; _1813 += THREADS)
        {
            uint _1736 = (((_1813 / 32u) * THREADS) + ((_1813 / 8u) % 4u)) + (4u * (_1813 % 8u));
            float _1820;
            _1820 = partial[_1736];
            for (uint _1818 = 32u; _1818 < THREADS; )
            {
                _1820 = spvFAdd(_1820, partial[_1736 + _1818]);
                _1818 += 32u;
                continue;
            }
            chunk_sums[_1813] = _1820;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1189 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1194 = _547 + (gl_LocalInvocationID.x / 8u);
        bool _1197 = gl_LocalInvocationID.x >= _1196;
        bool _1206;
        if (!_1197)
        {
            _1206 = _1189 >= p.rows;
        }
        else
        {
            _1206 = _1197;
        }
        if (_1206)
        {
            break;
        }
        uint _1216 = (_1194 * p.y_stride) + _1189;
        uint _1221 = gl_LocalInvocationID.x % 8u;
        uint _1777 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1221 % 2u)) * 4u) + (_1221 / 2u)) * 8u;
        float _2060 = (((((spvFAdd(chunk_sums[_1777], chunk_sums[_1777 + 1u]) + chunk_sums[_1777 + 2u]) + chunk_sums[_1777 + 3u]) + chunk_sums[_1777 + 4u]) + chunk_sums[_1777 + 5u]) + chunk_sums[_1777 + 6u]) + chunk_sums[_1777 + 7u];
        float _1816;
        if ((p.flags & 1u) != 0u)
        {
            _1816 = spvFAdd(_2060, _1235.y[_1216]);
        }
        else
        {
            _1816 = _2060;
        }
        float _1817;
        if ((p.flags & 2u) != 0u)
        {
            _1817 = spvFAdd(_1816, _1251.residual[(_1194 * p.residual_stride) + _1189]);
        }
        else
        {
            _1817 = _1816;
        }
        _1235.y[_1216] = _1817;
        break;
    } while(false);
}

