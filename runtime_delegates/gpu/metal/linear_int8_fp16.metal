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
constant uint _571 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _574 = (THREADS * TOKENS);
constant uint _575 = (_574 * 2u);
constant uint _600 = (64u * TOKENS);
constant uint _636 = (64u * TOKENS);
constant bool _692 = (TOKENS == 1u);

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

constant uint _760 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _861 = (TOKENS * 2u);
constant bool _893 = (TOKENS >= 4u);
constant bool _895 = (_893 && true);
constant int _896 = _895 ? 2 : 4;
constant uint _897 = (uint(_896) + 0u);
constant bool _953 = (TOKENS >= 4u);
constant bool _954 = (_953 && true);
constant int _955 = _954 ? 2 : 4;
constant uint _956 = (uint(_955) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1084 = (TOKENS >= 4u);
constant bool _1085 = (_1084 && true);
constant int _1086 = _1085 ? 2 : 4;
constant uint _1087 = (uint(_1086) + 0u);
constant uint _1088 = (_1087 * THREADS);

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
constant uint _1165 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1165, 1u, 1u);

kernel void linear_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _123 [[buffer(1)]], const device X& _1019 [[buffer(2)]], device Y& _786 [[buffer(3)]], const device Bias& _1118 [[buffer(4)]], const device Step& _700 [[buffer(5)]], const device Residual& _1142 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_575];
    threadgroup float chunk_sums[_636];
    do
    {
        uint _690 = gl_WorkGroupID.z * TOKENS;
        uint _1727;
        if (_692)
        {
            _1727 = 1u;
        }
        else
        {
            _1727 = _700.step_[0];
        }
        uint _1728;
        if ((p.flags & 2u) != 0u)
        {
            _1728 = _700.step_[2];
        }
        else
        {
            _1728 = 0u;
        }
        if (_690 >= _1727)
        {
            break;
        }
        uint _739 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _744 = _690 + (gl_LocalInvocationID.x / 8u);
        uint _754 = gl_WorkGroupID.y * p.y_group;
        uint _757 = ((_744 * p.y_stride) + _754) + _739;
        bool _761 = gl_LocalInvocationID.x < _760;
        bool _769;
        if (_761)
        {
            _769 = _739 < p.rows;
        }
        else
        {
            _769 = _761;
        }
        bool _772 = _744 < _1727;
        bool _773 = _769 && _772;
        if ((_690 + TOKENS) <= _1728)
        {
            if (_773)
            {
                _786.y[_757] = 0.0;
            }
            break;
        }
        uint _805 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1729 = 0u; _1729 < TOKENS; )
        {
            x_at[_1729] = ((_690 + _1729) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1729++;
            continue;
        }
        uint _837 = _1727 - _690;
        uint _844 = gl_LocalInvocationID.x % 8u;
        uint _1202 = ((p.cols + 7u) / 8u) * 4u;
        uint _1180 = _805 + _1202;
        uint _1182 = _844 / 2u;
        uint _1730;
        if ((_844 & 1u) == 0u)
        {
            _1730 = ((device uint*)&_123.weights[_1180])[_1182] & 65535u;
        }
        else
        {
            _1730 = ((device uint*)&_123.weights[_1180])[_1182] >> uint(16);
        }
        uint _1211 = _1730 & 32767u;
        uint _1213 = _1211 << uint(13);
        float _1228 = (_1211 < 1024u) ? (as_type<float>(947912704u | _1213) - 6.103515625e-05) : as_type<float>(_1213 + ((_1211 < 31744u) ? 939524096u : 1879048192u));
        float _1731;
        if ((_1730 & 32768u) != 0u)
        {
            _1731 = -_1228;
        }
        else
        {
            _1731 = _1228;
        }
        float _853 = spvFMul(p.scale, _1731);
        float acc[16];
        for (uint _1732 = 0u; _1732 < _861; )
        {
            acc[_1732] = 0.0;
            _1732++;
            continue;
        }
        uint _1733;
        _1733 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _883;
        for (;;)
        {
            _883 = _1733 < _1202;
            if (_883)
            {
                bool _898 = 0u < _897;
                bool _907;
                if (_898)
                {
                    _907 = _883;
                }
                else
                {
                    _907 = _898;
                }
                if (_907)
                {
                    uint4 _1719[1] = { _123.weights[_805 + _1733] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1719);
                }
                bool _1903 = 1u < _897;
                bool _1909;
                if (_1903)
                {
                    _1909 = (_1733 + THREADS) < _1202;
                }
                else
                {
                    _1909 = _1903;
                }
                if (_1909)
                {
                    uint4 _1916[1] = { _123.weights[_805 + (_1733 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1916);
                }
                bool _1926 = 2u < _897;
                bool _1932;
                if (_1926)
                {
                    _1932 = (_1733 + (2u * THREADS)) < _1202;
                }
                else
                {
                    _1932 = _1926;
                }
                if (_1932)
                {
                    uint4 _1939[1] = { _123.weights[_805 + (_1733 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1939);
                }
                bool _1949 = 3u < _897;
                bool _1955;
                if (_1949)
                {
                    _1955 = (_1733 + (3u * THREADS)) < _1202;
                }
                else
                {
                    _1955 = _1949;
                }
                if (_1955)
                {
                    uint4 _1962[1] = { _123.weights[_805 + (_1733 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1962);
                }
                for (uint _1744 = 0u; _1744 < 4u; _1744++)
                {
                    uint _951 = _1733 + (_1744 * THREADS);
                    if ((_1744 >= _956) || (_951 >= _1202))
                    {
                        continue;
                    }
                    uint _1270 = raw[_1744][0].x ^ 2155905152u;
                    half2 _1277 = as_type<half2>((_1270 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _1287 = as_type<half2>(((_1270 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _1974 = raw[_1744][0].y ^ 2155905152u;
                    half2 _1979 = as_type<half2>((_1974 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _1987 = as_type<half2>(((_1974 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _1998 = raw[_1744][0].z ^ 2155905152u;
                    half2 _2003 = as_type<half2>((_1998 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _2011 = as_type<half2>(((_1998 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    uint _2022 = raw[_1744][0].w ^ 2155905152u;
                    half2 _2027 = as_type<half2>((_2022 & 16711935u) | 1677747200u) - half2(half(1152.0));
                    half2 _2035 = as_type<half2>(((_2022 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                    for (uint _1748 = 0u; _1748 < TOKENS; _1748 += 4u)
                    {
                        if ((_1748 != 0u) && (_1748 >= _837))
                        {
                            continue;
                        }
                        for (uint _1749 = _1748; _1749 < (_1748 + 4u); _1749++)
                        {
                            if (_1749 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1297 = (_951 >> uint(2)) * 2u;
                            uint _1028 = x_at[_1749] + _1297;
                            uint _2049 = x_at[_1749] + (_1297 + 1u);
                            half2 _1328 = half2(_1019.x[_1028].xz);
                            half2 _1337 = half2(_1019.x[_1028].yw);
                            half2 _2064 = half2(_1019.x[_2049].xz);
                            half2 _2071 = half2(_1019.x[_2049].yw);
                            half2 _2096 = max(max(max(abs(_1328), abs(_1337)), abs(_2064)), abs(_2071));
                            half _1365 = max(_2096.x, _2096.y);
                            half2 _2128 = fma(_1987, _2071, fma(_1979, _2064, fma(_1287, _1337, spvFMul(_1277, _1328))));
                            half2 _2182 = fma(_2035, _2071, fma(_2027, _2064, fma(_2011, _1337, _2003 * _1328)));
                            float _2517;
                            float _2518;
                            if ((_1749 < _837) && (!((_1365 >= half(0.03125)) && (_1365 <= half(64.0)))))
                            {
                                uint _1462 = raw[_1744][0].x ^ 2155905152u;
                                uint _2201 = raw[_1744][0].y ^ 2155905152u;
                                uint _2231 = raw[_1744][0].z ^ 2155905152u;
                                uint _2261 = raw[_1744][0].w ^ 2155905152u;
                                _2518 = fma(as_type<float>((_2201 >> uint(24)) | 1258291200u) - 8388736.0, _1019.x[_2049].w, fma(as_type<float>(((_2201 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].z, fma(as_type<float>(((_2201 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].y, fma(as_type<float>((_2201 & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].x, fma(as_type<float>((_1462 >> uint(24)) | 1258291200u) - 8388736.0, _1019.x[_1028].w, fma(as_type<float>(((_1462 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_1028].z, fma(as_type<float>(((_1462 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_1028].y, spvFMul(as_type<float>((_1462 & 255u) | 1258291200u) - 8388736.0, _1019.x[_1028].x))))))));
                                _2517 = fma(as_type<float>((_2261 >> uint(24)) | 1258291200u) - 8388736.0, _1019.x[_2049].w, fma(as_type<float>(((_2261 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].z, fma(as_type<float>(((_2261 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].y, fma(as_type<float>((_2261 & 255u) | 1258291200u) - 8388736.0, _1019.x[_2049].x, fma(as_type<float>((_2231 >> uint(24)) | 1258291200u) - 8388736.0, _1019.x[_1028].w, fma(as_type<float>(((_2231 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_1028].z, fma(as_type<float>(((_2231 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1019.x[_1028].y, (as_type<float>((_2231 & 255u) | 1258291200u) - 8388736.0) * _1019.x[_1028].x)))))));
                            }
                            else
                            {
                                _2518 = spvFAdd(float(_2128.x), float(_2128.y));
                                _2517 = float(_2182.x) + float(_2182.y);
                            }
                            uint _1061 = _1749 * 2u;
                            acc[_1061] = spvFAdd(acc[_1061], _2518);
                            uint _2357 = _1061 + 1u;
                            acc[_2357] += _2517;
                        }
                    }
                }
                _1733 += _1088;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1734 = 0u; _1734 < _571; )
        {
            partial[(_1734 * THREADS) + gl_LocalInvocationID.x] = param[_1734];
            _1734++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1735 = gl_LocalInvocationID.x; _1735 < _600; _1735 += THREADS)
        {
            uint _1652 = (((_1735 / 32u) * THREADS) + ((_1735 / 8u) % 4u)) + (4u * (_1735 % 8u));
            float _1742;
            _1742 = partial[_1652];
            for (uint _1740 = 32u; _1740 < THREADS; )
            {
                _1742 = spvFAdd(_1742, partial[_1652 + _1740]);
                _1740 += 32u;
                continue;
            }
            chunk_sums[_1735] = _1742;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_773)
        {
            break;
        }
        uint _1693 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_844 % 2u)) * 4u) + _1182) * 8u;
        float _1108 = spvFMul((((((spvFAdd(chunk_sums[_1693], chunk_sums[_1693 + 1u]) + chunk_sums[_1693 + 2u]) + chunk_sums[_1693 + 3u]) + chunk_sums[_1693 + 4u]) + chunk_sums[_1693 + 5u]) + chunk_sums[_1693 + 6u]) + chunk_sums[_1693 + 7u], _853);
        float _1738;
        if ((p.flags & 1u) != 0u)
        {
            _1738 = spvFAdd(_1108, _1118.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _739]);
        }
        else
        {
            _1738 = _1108;
        }
        float _1739;
        if ((p.flags & 4u) != 0u)
        {
            _1739 = spvFAdd(_1738, _1142.residual[((_744 * p.residual_stride) + _754) + _739]);
        }
        else
        {
            _1739 = _1738;
        }
        _786.y[_757] = (_744 < _1728) ? 0.0 : _1739;
        break;
    } while(false);
}

