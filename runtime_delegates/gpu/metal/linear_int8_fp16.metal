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
constant uint _570 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _573 = (THREADS * TOKENS);
constant uint _574 = (_573 * 2u);
constant uint _599 = (64u * TOKENS);
constant uint _635 = (64u * TOKENS);
constant bool _691 = (TOKENS == 1u);

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

constant uint _759 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _860 = (TOKENS * 2u);
constant bool _892 = (TOKENS >= 4u);
constant bool _894 = (_892 && true);
constant int _895 = _894 ? 2 : 4;
constant uint _896 = (uint(_895) + 0u);
constant bool _952 = (TOKENS >= 4u);
constant bool _953 = (_952 && true);
constant int _954 = _953 ? 2 : 4;
constant uint _955 = (uint(_954) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1200 = (TOKENS >= 4u);
constant bool _1201 = (_1200 && true);
constant int _1202 = _1201 ? 2 : 4;
constant uint _1203 = (uint(_1202) + 0u);
constant uint _1204 = (_1203 * THREADS);

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
constant uint _1281 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1281, 1u, 1u);

kernel void linear_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _124 [[buffer(1)]], const device X& _1019 [[buffer(2)]], device Y& _785 [[buffer(3)]], const device Bias& _1234 [[buffer(4)]], const device Step& _699 [[buffer(5)]], const device Residual& _1258 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_574];
    threadgroup float chunk_sums[_635];
    do
    {
        uint _689 = gl_WorkGroupID.z * TOKENS;
        uint _1846;
        if (_691)
        {
            _1846 = 1u;
        }
        else
        {
            _1846 = _699.step_[0];
        }
        uint _1847;
        if ((p.flags & 2u) != 0u)
        {
            _1847 = _699.step_[2];
        }
        else
        {
            _1847 = 0u;
        }
        if (_689 >= _1846)
        {
            break;
        }
        uint _738 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _743 = _689 + (gl_LocalInvocationID.x / 8u);
        uint _753 = gl_WorkGroupID.y * p.y_group;
        uint _756 = ((_743 * p.y_stride) + _753) + _738;
        bool _760 = gl_LocalInvocationID.x < _759;
        bool _768;
        if (_760)
        {
            _768 = _738 < p.rows;
        }
        else
        {
            _768 = _760;
        }
        bool _771 = _743 < _1846;
        bool _772 = _768 && _771;
        if ((_689 + TOKENS) <= _1847)
        {
            if (_772)
            {
                _785.y[_756] = 0.0;
            }
            break;
        }
        uint _804 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1848 = 0u; _1848 < TOKENS; )
        {
            x_at[_1848] = ((_689 + _1848) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1848++;
            continue;
        }
        uint _836 = _1846 - _689;
        uint _843 = gl_LocalInvocationID.x % 8u;
        uint _1318 = ((p.cols + 7u) / 8u) * 4u;
        uint _1296 = _804 + _1318;
        uint _1298 = _843 / 2u;
        uint _1849;
        if ((_843 & 1u) == 0u)
        {
            _1849 = ((device uint*)&_124.weights[_1296])[_1298] & 65535u;
        }
        else
        {
            _1849 = ((device uint*)&_124.weights[_1296])[_1298] >> uint(16);
        }
        uint _1327 = _1849 & 32767u;
        uint _1329 = _1327 << uint(13);
        float _1344 = (_1327 < 1024u) ? (as_type<float>(947912704u | _1329) - 6.103515625e-05) : as_type<float>(_1329 + ((_1327 < 31744u) ? 939524096u : 1879048192u));
        float _1850;
        if ((_1849 & 32768u) != 0u)
        {
            _1850 = -_1344;
        }
        else
        {
            _1850 = _1344;
        }
        float _852 = spvFMul(p.scale, _1850);
        float acc[16];
        for (uint _1851 = 0u; _1851 < _860; )
        {
            acc[_1851] = 0.0;
            _1851++;
            continue;
        }
        uint _1852;
        _1852 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _882;
        for (;;)
        {
            _882 = _1852 < _1318;
            if (_882)
            {
                bool _897 = 0u < _896;
                bool _906;
                if (_897)
                {
                    _906 = _882;
                }
                else
                {
                    _906 = _897;
                }
                if (_906)
                {
                    uint4 _1835[1] = { _124.weights[_804 + _1852] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1835);
                }
                bool _2060 = 1u < _896;
                bool _2066;
                if (_2060)
                {
                    _2066 = (_1852 + THREADS) < _1318;
                }
                else
                {
                    _2066 = _2060;
                }
                if (_2066)
                {
                    uint4 _2073[1] = { _124.weights[_804 + (_1852 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _2073);
                }
                bool _2083 = 2u < _896;
                bool _2089;
                if (_2083)
                {
                    _2089 = (_1852 + (2u * THREADS)) < _1318;
                }
                else
                {
                    _2089 = _2083;
                }
                if (_2089)
                {
                    uint4 _2096[1] = { _124.weights[_804 + (_1852 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _2096);
                }
                bool _2106 = 3u < _896;
                bool _2112;
                if (_2106)
                {
                    _2112 = (_1852 + (3u * THREADS)) < _1318;
                }
                else
                {
                    _2112 = _2106;
                }
                if (_2112)
                {
                    uint4 _2119[1] = { _124.weights[_804 + (_1852 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _2119);
                }
                for (uint _1863 = 0u; _1863 < 4u; _1863++)
                {
                    uint _950 = _1852 + (_1863 * THREADS);
                    if ((_1863 >= _955) || (_950 >= _1318))
                    {
                        continue;
                    }
                    uint _1386 = raw[_1863][0].x ^ 2155905152u;
                    half2 _1393 = as_type<half2>((_1386 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _1403 = as_type<half2>(((_1386 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _2131 = raw[_1863][0].y ^ 2155905152u;
                    half2 _2136 = as_type<half2>((_2131 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _2144 = as_type<half2>(((_2131 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _2155 = raw[_1863][0].z ^ 2155905152u;
                    half2 _2160 = as_type<half2>((_2155 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _2168 = as_type<half2>(((_2155 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _2179 = raw[_1863][0].w ^ 2155905152u;
                    half2 _2184 = as_type<half2>((_2179 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _2192 = as_type<half2>(((_2179 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _1868;
                    _1868 = 0u;
                    uint _1949;
                    for (uint _1867 = 0u; _1867 < TOKENS; _1868 = _1949, _1867 += 4u)
                    {
                        if ((_1867 != 0u) && (_1867 >= _836))
                        {
                            _1949 = _1868;
                            continue;
                        }
                        uint _1903;
                        _1903 = _1868;
                        uint _1976;
                        for (uint _1886 = _1867; _1886 < (_1867 + 4u); _1903 = _1976, _1886++)
                        {
                            if (_1886 >= TOKENS)
                            {
                                _1976 = _1903;
                                continue;
                            }
                            uint _1413 = (_950 >> uint(2)) * 2u;
                            uint _1028 = x_at[_1886] + _1413;
                            uint _2206 = x_at[_1886] + (_1413 + 1u);
                            half2 _1439 = half2(_1019.x[_1028].xz);
                            half2 _1448 = half2(_1019.x[_1028].yw);
                            half2 _2221 = half2(_1019.x[_2206].xz);
                            half2 _2228 = half2(_1019.x[_2206].yw);
                            half2 _2253 = max(max(max(abs(_1439), abs(_1448)), abs(_2221)), abs(_2228));
                            half _1476 = max(_2253.x, _2253.y);
                            bool _1481 = (_1476 >= half(0.03125)) && (_1476 <= half(64.0));
                            half2 _2285 = fma(_2144, _2228, fma(_2136, _2221, fma(_1403, _1448, spvFMul(_1393, _1439))));
                            half2 _2339 = fma(_2192, _2228, fma(_2184, _2221, fma(_2168, _1448, _2160 * _1439)));
                            uint _1897;
                            if (_1481)
                            {
                                _1897 = 0u;
                            }
                            else
                            {
                                _1897 = 1u << _1886;
                            }
                            uint _1064 = _1886 * 2u;
                            float _1907;
                            if (_1481)
                            {
                                _1907 = spvFAdd(acc[_1064], spvFAdd(float(_2285.x), float(_2285.y)));
                            }
                            else
                            {
                                _1907 = acc[_1064];
                            }
                            acc[_1064] = _1907;
                            uint _2357 = _1064 + 1u;
                            float _2372;
                            if (_1481)
                            {
                                _2372 = acc[_2357] + (float(_2339.x) + float(_2339.y));
                            }
                            else
                            {
                                _2372 = acc[_2357];
                            }
                            acc[_2357] = _2372;
                            _1976 = _1903 | _1897;
                        }
                        _1949 = _1903;
                    }
                    uint _1102 = _1868 & ((1u << min(_836, TOKENS)) - 1u);
                    if (_1102 != 0u)
                    {
                        uint _1561 = raw[_1863][0].x ^ 2155905152u;
                        float _1584 = as_type<float>((_1561 & 255u) | 1258291200u) - 8388736.0;
                        float _1592 = as_type<float>(((_1561 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1600 = as_type<float>(((_1561 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1608 = as_type<float>((_1561 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2383 = raw[_1863][0].y ^ 2155905152u;
                        float _2387 = as_type<float>((_2383 & 255u) | 1258291200u) - 8388736.0;
                        float _2392 = as_type<float>(((_2383 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2397 = as_type<float>(((_2383 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2401 = as_type<float>((_2383 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2413 = raw[_1863][0].z ^ 2155905152u;
                        float _2417 = as_type<float>((_2413 & 255u) | 1258291200u) - 8388736.0;
                        float _2422 = as_type<float>(((_2413 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2427 = as_type<float>(((_2413 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2431 = as_type<float>((_2413 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2443 = raw[_1863][0].w ^ 2155905152u;
                        float _2447 = as_type<float>((_2443 & 255u) | 1258291200u) - 8388736.0;
                        float _2452 = as_type<float>(((_2443 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2457 = as_type<float>(((_2443 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2461 = as_type<float>((_2443 >> uint(24)) | 1258291200u) - 8388736.0;
                        for (uint _1872 = 0u; _1872 < TOKENS; _1872++)
                        {
                            uint _1125 = _1102 >> _1872;
                            if ((_1125 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1613 = (_950 >> uint(2)) * 2u;
                            uint _1628 = uint(int(popcount((~_1125) & (_1125 - 1u))));
                            uint _1155 = (x_at[_1872] + _1613) + _1628;
                            uint _2483 = (x_at[_1872] + (_1613 + 1u)) + _1628;
                            uint _1179 = _1872 * 2u;
                            acc[_1179] = spvFAdd(acc[_1179], fma(_2401, _1019.x[_2483].w, fma(_2397, _1019.x[_2483].z, fma(_2392, _1019.x[_2483].y, fma(_2387, _1019.x[_2483].x, fma(_1608, _1019.x[_1155].w, fma(_1600, _1019.x[_1155].z, fma(_1592, _1019.x[_1155].y, spvFMul(_1584, _1019.x[_1155].x)))))))));
                            uint _2562 = _1179 + 1u;
                            acc[_2562] += fma(_2461, _1019.x[_2483].w, fma(_2457, _1019.x[_2483].z, fma(_2452, _1019.x[_2483].y, fma(_2447, _1019.x[_2483].x, fma(_2431, _1019.x[_1155].w, fma(_2427, _1019.x[_1155].z, fma(_2422, _1019.x[_1155].y, _2417 * _1019.x[_1155].x)))))));
                        }
                    }
                }
                _1852 += _1204;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1853 = 0u; _1853 < _570; )
        {
            partial[(_1853 * THREADS) + gl_LocalInvocationID.x] = param[_1853];
            _1853++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1854 = gl_LocalInvocationID.x; _1854 < _599; _1854 += THREADS)
        {
            uint _1771 = (((_1854 / 32u) * THREADS) + ((_1854 / 8u) % 4u)) + (4u * (_1854 % 8u));
            float _1861;
            _1861 = partial[_1771];
            for (uint _1859 = 32u; _1859 < THREADS; )
            {
                _1861 = spvFAdd(_1861, partial[_1771 + _1859]);
                _1859 += 32u;
                continue;
            }
            chunk_sums[_1854] = _1861;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_772)
        {
            break;
        }
        uint _1812 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_843 % 2u)) * 4u) + _1298) * 8u;
        float _1224 = spvFMul((((((spvFAdd(chunk_sums[_1812], chunk_sums[_1812 + 1u]) + chunk_sums[_1812 + 2u]) + chunk_sums[_1812 + 3u]) + chunk_sums[_1812 + 4u]) + chunk_sums[_1812 + 5u]) + chunk_sums[_1812 + 6u]) + chunk_sums[_1812 + 7u], _852);
        float _1857;
        if ((p.flags & 1u) != 0u)
        {
            _1857 = spvFAdd(_1224, _1234.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _738]);
        }
        else
        {
            _1857 = _1224;
        }
        float _1858;
        if ((p.flags & 4u) != 0u)
        {
            _1858 = spvFAdd(_1857, _1258.residual[((_743 * p.residual_stride) + _753) + _738]);
        }
        else
        {
            _1858 = _1857;
        }
        _785.y[_756] = (_743 < _1847) ? 0.0 : _1858;
        break;
    } while(false);
}

